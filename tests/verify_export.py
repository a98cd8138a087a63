#!/usr/bin/env python3
"""Verifies an export of Frikort Ledger, written from ledger/domain/RECORDS.md alone.

    verify_export.py FILE…      one partition's files, in order

Prints person_id,year,limit,total,exempt,taxable,payments for each person's year, and ends with 0;
or names the first contradiction by file, line and position, and ends with 1. It cannot decide
anew; it checks places, form, sums and splits. Standard library only.
"""
import json, sys, uuid
from decimal import Decimal

EVENT_IDS = uuid.UUID("8c0f54de-7a4e-4b1b-9d0a-6f1b6e0e52a7")
KEYS = ["schema", "partition", "position", "event_id", "person_id", "version", "recorded_at", "type",
        "actor", "trace_id", "data", "outcome"]
ZERO = Decimal("0.00")
INSTANT = len("2026-11-22T04:18:59.123456Z")


def need(holds, what):
    if not holds:
        raise ValueError(what)


def key(part):
    return part["employer_cvr"], part["reference"]


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


class Partition:
    def __init__(self):
        self.position, self.at, self.number = 0, "", None
        self.versions, self.persons = {}, {}

    def take(self, line):
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
        self.position, self.at, self.versions[stream] = record["position"], at, version
        person, kind = self.persons.setdefault(stream, Person()), record["type"]
        if kind.startswith("payment_"):
            person.payment(kind, record["data"], record["outcome"])
        elif kind == "allowance_recalculated":
            person.splits(record["outcome"]["changed"], [record["outcome"]["year"]])


def main(files):
    partition, line = Partition(), 0
    for file in files:
        with open(file, encoding="utf-8", newline="\n") as lines:
            for line, text in enumerate(lines, 1):
                try:
                    need(text.endswith("\n"), "the line is cut off")
                    partition.take(text[:-1])
                except (ValueError, KeyError, TypeError, ArithmeticError) as what:
                    print(f"{file}, line {line}, after position {partition.position}: "
                          f"{type(what).__name__}: {what}", file=sys.stderr)
                    return 1
    if partition.position == 0:
        print("there is no record", file=sys.stderr)
        return 1
    print("person_id,year,limit,total,exempt,taxable,payments")
    for stream, person in sorted((s, p) for s, p in partition.persons.items() if s):
        for year in sorted({payment[0] for payment in person.payments.values()}):
            print(stream, year, *person.totals(year), sep=",")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
