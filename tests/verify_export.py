#!/usr/bin/env python3
"""Verifies an export or a receipt of Frikort Ledger, written from ledger/domain/RECORDS.md and EXPORT.md.

    verify_export.py [--key VKEY|FILE]… [--checkpoint FILE]… DIR/partition-N.jsonl…
    verify_export.py receipt FILE --key VKEY|FILE

Prints person_id,year,limit,total,exempt,taxable,payments for each person's year. Ends with 0; with 1 at
the first contradiction, by file, line and position; with 2 when something could not be checked, and says
what. It cannot decide anew; it checks places, form, sums, splits, hashes, signatures and totals. Standard
library and `cryptography`.
"""
import argparse, base64, hashlib, json, os, re, sys, uuid
from decimal import Decimal
from pathlib import Path

EVENT_IDS = uuid.UUID("8c0f54de-7a4e-4b1b-9d0a-6f1b6e0e52a7")
KEYS = ["schema", "partition", "position", "event_id", "person_id", "version", "recorded_at", "type",
        "actor", "trace_id", "data", "outcome"]
ZERO = Decimal("0.00")
INSTANT = len("2026-11-22T04:18:59.123456Z")
WRONG = (ValueError, KeyError, TypeError, ArithmeticError, IndexError)


class At(Exception):
    """A contradiction at another position than the next."""


def need(holds, what):
    if not holds:
        raise ValueError(what)


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def key(part):
    return part["employer_cvr"], part["reference"]


# --- the tree, notes and receipts ---------------------------------------------------------------------

class Tree:
    """The complete subtrees of the leaves so far, largest first; and a level's hashes as they come."""

    def __init__(self):
        self.size, self.roots = 0, []

    def push(self, leaf):
        """Adds a leaf; gives the tile hashes that are known now: (level, index, hash)."""
        known, size = [(0, self.size, leaf)], self.size
        self.roots.append(leaf)
        self.size += 1
        level = 0
        while size >> level & 1:
            right, left = self.roots.pop(), self.roots.pop()
            self.roots.append(sha(b"\1", left, right))
            level += 1
            if level % 8 == 0:
                known.append((level // 8, size >> level, self.roots[-1]))
        return known

    def root(self):
        if not self.roots:
            return sha()
        root = self.roots[-1]
        for left in reversed(self.roots[:-1]):
            root = sha(b"\1", left, root)
        return root


def included(proof, index, size, leaf, root):
    """RFC 9162 § 2.1.3.2."""
    need(0 <= index < size, "the place is not in the tree")
    at, last, node = index, size - 1, leaf
    for part in proof:
        need(last > 0, "the proof is too long")
        if at & 1 or at == last:
            node = sha(b"\1", part, node)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            node = sha(b"\1", node, part)
        at, last = at >> 1, last >> 1
    need(last == 0 and node == root, "the record is not in the tree that was signed")


def read_key(text):
    name, key_id, encoded = text.strip().split("+", 2)
    public = base64.b64decode(encoded, validate=True)
    need(len(public) == 33 and public[0] == 1, "no Ed25519 key")
    need(sha(name.encode(), b"\n", public)[:4].hex() == key_id, "not the id of its key")
    return name, bytes.fromhex(key_id), public[1:]


def read_keys(given):
    lines = []
    for key in given:
        lines += Path(key).read_text().splitlines() if os.path.exists(key) else [key]
    return [read_key(line) for line in lines if line]


def read_note(note, keys):
    """Origin, size, root, and whether one of the keys has signed; a false signature is a contradiction."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    text, signatures = note[:note.rindex("\n\n") + 1], note[note.rindex("\n\n") + 2:]
    origin, size, root = text.splitlines()[:3]
    need(re.fullmatch("0|[1-9][0-9]*", size) and signatures.endswith("\n"), "no checkpoint")
    signed = False
    for line in signatures.splitlines():
        dash, name, encoded = line.split(" ")
        signature = base64.b64decode(encoded, validate=True)
        need(dash == "\u2014", "no signature line")
        for key_name, key_id, public in keys:
            if (key_name, key_id) == (name, signature[:4]) and key_name == origin:
                try:
                    Ed25519PublicKey.from_public_bytes(public).verify(signature[4:], text.encode())
                except InvalidSignature:
                    raise ValueError("a signature of the checkpoint is false")
                signed = True
    root = base64.b64decode(root, validate=True)
    need(len(root) == 32, "no root")
    return origin, int(size), root, signed


def verify_receipt(file, keys):
    head, note = Path(file).read_bytes().decode().split("\n\n", 1)
    first, extra, index, *proof = head.split("\n")
    need(first == "c2sp.org/tlog-proof@v1", "no receipt")
    need(extra.startswith("extra ") and re.fullmatch("index (0|[1-9][0-9]*)", index), "no receipt")
    record, index = base64.b64decode(extra[6:], validate=True), int(index[6:])
    origin, size, root, signed = read_note(note, keys)
    need(signed, "the checkpoint is signed by none of the keys")
    proof = [base64.b64decode(part, validate=True) for part in proof]
    included(proof, index, size, sha(b"\0", record), root)
    told = json.loads(record)
    need(told["position"] == index + 1, "the record tells another position")
    need(origin.endswith(f"/frikort/partition/{told['partition']}"), "the record tells another partition")
    print(f"{told['type']} at position {told['position']}, recorded {told['recorded_at']}")


# --- the records --------------------------------------------------------------------------------------

class Person:
    def __init__(self):
        self.payments = {}  # (cvr, reference) -> [year, amount, exempt, revision]
        self.limits = {}  # year -> the limit last applied

    def payment(self, kind, data, outcome):
        before = self.payments.get(key(data))
        need((before is None) == (kind == "payment_reported"), "a payment out of turn")
        if before:
            need(data["expected_revision"] == before[3], "a payment was at another revision")
            need(before[1] > 0, "a cancelled payment is changed")
        need(outcome["revision"] == (before[3] if before else 0) + 1, "not the next revision")
        year = outcome["year"]["year"]
        need(outcome["attribution_date"].startswith(f"{year:04}-"), "another year than its date's")
        moved = before is not None and before[0] != year
        left = outcome.get("left_year")
        need((left or {}).get("year") == (before[0] if moved else None), "another year was left")
        amount = ZERO if kind == "payment_cancelled" else Decimal(data["facts"]["amount"])
        need(Decimal(outcome["exempt"]) + Decimal(outcome["taxable"]) == amount,
             "exempt and taxable are not the amount")
        self.payments[key(data)] = [year, amount, Decimal(outcome["exempt"]), outcome["revision"]]
        self.splits(outcome.get("changed", []), [outcome["year"]] + ([left] if left else []))

    def splits(self, changed, years):
        for change in changed:
            need(key(change) in self.payments, "an unknown payment's split changes")
            payment = self.payments[key(change)]
            need(Decimal(change["exempt"]) + Decimal(change["taxable"]) == payment[1],
                 "exempt and taxable are not the amount")
            payment[2] = Decimal(change["exempt"])
        for stated in years:
            self.limits[stated["year"]] = Decimal(stated["limit"])
            _, total, exempt, _, payments = self.totals(stated["year"])
            need(Decimal(stated["total"]) == total, "the total is not the sum of the payments")
            need(stated["payments"] == payments, "not the number of payments")
            need(exempt == min(Decimal(stated["limit"]), total), "exempt is not min(limit, total)")

    def totals(self, year):
        # A payment that counts is above zero; a cancelled one counts as zero.
        of_year = [p for p in self.payments.values() if p[0] == year and p[1] > 0]
        total, exempt = sum((p[1] for p in of_year), ZERO), sum((p[2] for p in of_year), ZERO)
        return self.limits[year], total, exempt, total - exempt, len(of_year)

    def years(self):
        return sorted({payment[0] for payment in self.payments.values()})


class Partition:
    def __init__(self, base, homes):
        self.position, self.at, self.number, self.base = 0, "", None, base
        self.homes, self.missing = homes, None  # where tiles lie
        self.versions, self.persons, self.tree = {}, {}, Tree()
        self.tiles, self.agreed, self.file, self.line = {}, 0, None, 0

    def take(self, line):
        self.hash(line.encode())
        record = json.loads(line)
        need(json.dumps(record, ensure_ascii=False, separators=(",", ":")) == line, "not canonical")
        need(list(record) == [k for k in KEYS if k in record], "keys out of order")
        need(record["schema"] == 1, "another schema")
        need(record["position"] == self.position + 1,
             f"position {record['position']} where {self.position + 1} must be")
        self.number = record["partition"] if self.number is None else self.number
        need(record["partition"] == self.number, "another partition")
        name = f"{record['partition']}:{record['position']}"
        need(record["event_id"] == str(uuid.uuid5(EVENT_IDS, name)), "not the event id of its place")
        at = record["recorded_at"]
        need(len(at) == INSTANT and at.endswith("Z") and at > self.at, "instants do not increase")
        stream = record.get("person_id")
        version = self.versions.get(stream, 0) + 1
        need(record["version"] == version, f"version {record['version']} where {version} must be")
        person, kind = self.persons.setdefault(stream, Person()), record["type"]
        if kind.startswith("payment_"):
            person.payment(kind, record["data"], record["outcome"])
        elif kind == "allowance_recalculated":
            person.splits(record["outcome"]["changed"], [record["outcome"]["year"]])
        self.position, self.at, self.versions[stream] = record["position"], at, version

    def hash(self, line):
        for level, index, value in self.tree.push(sha(b"\0", line)):
            for home in self.homes:
                stored = self.stored(home, level, index // 256)[index % 256 * 32:][:32]
                if home == f"{self.base}.tiles" and not stored:
                    self.missing = self.missing or f"{home}: hash {index} of level {level}"
                if stored and stored != value and level == 0:
                    raise ValueError(f"not the record that was logged, says {home}")
                if stored and stored != value:
                    raise At((index << 8 * level) + 1, f"{home} does not follow from the records")

    def stored(self, home, level, number):
        """A tile as it was stored; of one that is not full, the longest."""
        if self.tiles.get((home, level), (None,))[0] != number:
            kept, name = number, f"{number % 1000:03}"
            while number := number // 1000:
                name = f"x{number % 1000:03}/{name}"
            path = Path(f"{home}/tile/{level}/{name}")
            parts = sorted(Path(f"{path}.p").glob("*"), key=lambda part: int(part.name))
            found = path if path.exists() else parts[-1] if parts else None
            self.tiles[home, level] = kept, found.read_bytes() if found else b""
        return self.tiles[home, level][1]

    def compare(self, file):
        """Holds the persons as they are against the projector's totals."""
        ours = {}
        for stream, person in self.persons.items():
            for year in person.years():
                _, total, exempt, _, payments = person.totals(year)
                if payments:
                    ours[stream, year] = f"{total:.2f}", payments, f"{exempt:.2f}"
        lines = [json.loads(line) for line in open(file, encoding="utf-8")]
        need("lines" in lines[-1] and lines[-1]["lines"] == len(lines) - 2, "the totals are cut off")
        order = [(line["person_id"], line["year"]) for line in lines[1:-1]]
        need(order == sorted(set(order)), "the totals are out of order")
        for number, line in enumerate(lines[1:-1], 2):
            told = line["total"], line["payments"], line["exempt"]
            mine = ours.pop((line["person_id"], line["year"]), ("0.00", 0, "0.00"))
            need(told == mine, f"{file}, line {number}: {told}, the records give {mine}")
        need(not ours, f"{file}: nothing of {sorted(ours)[:1]}")


def read_beside(base, number, keys, older):
    """The checkpoints by size, where the totals stand, and what cannot be checked."""
    notes, missing, own = [], [], f"{base}.checkpoint"
    for file in older + ([own] if base else []):
        origin, size, root, signed = read_note(Path(file).read_bytes().decode(), keys)
        of_this = origin.endswith(f"/frikort/partition/{number}") or number is None
        if file == own and not of_this:
            raise At(size, f"{file} is another log's")
        if not of_this:
            continue  # an older one of another partition
        if file == own and keys and not signed:
            raise At(size, f"{file} is signed by none of the keys")
        if not signed:
            missing.append(f"{file}: it is signed by none of the keys")
        notes.append((size, root, file))
    totals = f"{base}.totals.jsonl"
    if not base or not os.path.exists(totals):
        return sorted(notes), None, missing + ["there are no totals of the projector"]
    with open(totals, encoding="utf-8") as lines:
        first = json.loads(next(lines))
    need(list(first) == ["partition", "position"] and str(first["partition"]) == number, "no totals")
    return sorted(notes), first["position"], missing


def verify(part, files, notes, totals, missing):
    """Takes all lines; raises at the first contradiction, and adds to what is missing."""
    for part.file in files:
        with open(part.file, encoding="utf-8", newline="\n") as lines:
            for part.line, text in enumerate(lines, 1):
                if not text.endswith("\n"):
                    missing.append(f"{part.file}: line {part.line} is cut off")
                    break
                part.take(text[:-1])
                while notes and notes[0][0] == part.position:
                    size, root, file = notes.pop(0)
                    if root != part.tree.root():
                        raise At(part.agreed + 1, f"{file}: this or a later one of the first {size} "
                                                  "is not what was signed")
                    part.agreed = size
                if totals == part.position:
                    try:
                        part.compare(f"{part.base}.totals.jsonl")
                    except WRONG as what:
                        raise At(totals, what)
    need(not notes, "the record is missing, says " + (notes[0][2] if notes else ""))
    need(not totals or totals <= part.position, "the record is missing, say the totals")
    if not part.position or not part.base:
        missing.append("no checkpoint came with the records")
    elif part.agreed != part.position:
        missing.append(f"the checkpoint is of the first {part.agreed} records only")
    if part.missing:
        missing.append(f"a tile is not there: {part.missing}")


def main():
    options = argparse.ArgumentParser(description=__doc__,
                                      formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--key", action="append", default=[])
    options.add_argument("--checkpoint", action="append", default=[])
    options.add_argument("files", nargs="+")
    args = options.parse_intermixed_args()
    keys = read_keys(args.key)
    if args.files[0] == "receipt":
        for file in args.files[1:]:
            try:
                verify_receipt(file, keys)
            except (OSError, *WRONG) as what:
                print(f"{file}: {type(what).__name__}: {what}", file=sys.stderr)
                return 2 if isinstance(what, OSError) else 1
        return 0
    named = re.fullmatch(r"(.*partition-([0-9]+))\..*", args.files[0])
    base = named[1] if named and os.path.exists(f"{named[1]}.checkpoint") else None
    homes = [re.sub(r"\.checkpoint$", ".tiles", file) for file in args.checkpoint]
    homes += [f"{named[1]}.tiles"] if named else []
    part = Partition(base, list(dict.fromkeys(homes)))
    try:
        if base and not keys and os.path.exists(f"{base}.keys"):
            print("keys: those that came with the export, only the server's word", file=sys.stderr)
            keys = read_keys([f"{base}.keys"])
        notes, totals, missing = read_beside(base, named and named[2], keys, args.checkpoint)
        verify(part, args.files, notes, totals, missing)
    except OSError as what:
        print(f"cannot read: {what}", file=sys.stderr)
        return 2
    except (At, *WRONG) as found:
        position, what = found.args if isinstance(found, At) else (part.position + 1, found)
        print(f"{part.file}, line {part.line}, position {position}: {what}", file=sys.stderr)
        return 1
    for what in missing:
        print(f"not checked: {what}", file=sys.stderr)
    print("person_id,year,limit,total,exempt,taxable,payments")
    for stream, person in sorted((s, p) for s, p in part.persons.items() if s):
        for year in person.years():
            print(stream, year, *person.totals(year), sep=",")
    return 2 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
