"""A payroll system in another language: it knows our .proto files and nothing else.

    python client.py --protos proto --ledger 127.0.0.1:50051 --projector 127.0.0.1:50052

Stubs are generated when it starts. It sets a limit, grants a card, reports, reports again,
corrects, asks how much of the limit is used, and reads the history back; each value is held
against what it must be, and the first one that is off ends the program with exit code 1.
The ledger must be empty.
"""

import argparse
import importlib
import json
import pathlib
import sys
import tempfile

import grpc
import grpc_tools
from google.rpc import error_details_pb2
from google.type.date_pb2 import Date
from grpc_status import rpc_status
from grpc_tools import protoc

CPR = "010160-5001"
UNKNOWN = "0201605001"
EMPLOYER = "13748136"
DEADLINE_SECONDS = 20


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--protos", required=True, help="directory that holds frikort/v1")
    parser.add_argument("--ledger", required=True, metavar="HOST:PORT")
    parser.add_argument("--projector", required=True, metavar="HOST:PORT")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as stubs:
        generate(arguments.protos, stubs)
        sys.path.insert(0, stubs)
        with (
            grpc.insecure_channel(arguments.ledger) as ledger,
            grpc.insecure_channel(arguments.projector) as projector,
        ):
            run(ledger, projector)
    print("every value is as it must be")


def generate(protos, stubs):
    """Compiles our files. google/type and google/protobuf come with the packages."""
    files = sorted(str(path) for path in pathlib.Path(protos, "frikort", "v1").glob("*.proto"))
    check("there are .proto files", bool(files), True)
    well_known = str(pathlib.Path(grpc_tools.__file__).parent / "_proto")
    options = [f"-I{protos}", f"-I{well_known}"]
    outputs = [f"--python_out={stubs}", f"--grpc_python_out={stubs}"]
    check("protoc", protoc.main(["protoc", *options, *outputs, *files]), 0)


def run(ledger, projector):
    stubs = {
        name: importlib.import_module(f"frikort.v1.{name}_service_pb2_grpc")
        for name in ("allowance", "audit", "payment", "policy", "visitation")
    }
    payments = stubs["payment"].PaymentServiceStub(ledger)
    visitations = stubs["visitation"].VisitationServiceStub(ledger)
    policies = stubs["policy"].PolicyServiceStub(ledger)
    audits = stubs["audit"].AuditServiceStub(ledger)
    allowances = stubs["allowance"].AllowanceServiceStub(projector)

    set_limit(policies)
    person_id = grant(visitations)
    report(payments, person_id)
    plan(payments)
    refused(payments)
    corrected = correct(payments)
    ask(allowances, corrected)
    state(allowances, corrected)
    read(audits, person_id)


def set_limit(policies):
    from frikort.v1 import policy_service_pb2 as policy

    limit = policy.AnnualLimit(
        year=2022, limit_oere=2_000_000, in_force_date=day(2022, 1, 1), citation="LOV 2217"
    )
    answer = policies.SetAnnualLimit(
        policy.SetAnnualLimitRequest(limit=limit), timeout=DEADLINE_SECONDS
    )
    check("the limit's position", [place.position for place in answer.positions], [1])
    listed = policies.ListAnnualLimits(policy.ListAnnualLimitsRequest(), timeout=DEADLINE_SECONDS)
    check("the limits", list(listed.limits), [limit])


def grant(visitations):
    from frikort.v1 import common_pb2 as common
    from frikort.v1 import visitation_service_pb2 as visitation

    request = visitation.GrantCardRequest(
        person=common.PersonRef(cpr_number=CPR),
        municipality_code="101",
        reference="S-1",
        frikort_id="00071",
        decision_date=day(2022, 1, 3),
        effective_date=day(2022, 1, 1),
    )
    answer = visitations.GrantCard(request, timeout=DEADLINE_SECONDS)
    check("the card", answer.card.status, common.CARD_STATUS_ACTIVE)
    check("the grant's position", answer.position.position, 2)
    check("first active day", answer.card.active_periods[0].first_day, day(2022, 1, 1))
    return answer.card.person_id


def payment(reference, oere, cpr=CPR, **more):
    from frikort.v1 import common_pb2 as common
    from frikort.v1 import payment_service_pb2 as service

    return service.ReportPaymentRequest(
        person=common.PersonRef(cpr_number=cpr),
        employer_cvr=EMPLOYER,
        reference=reference,
        facts=facts(oere),
        ordinary_work=True,
        **more,
    )


def facts(oere):
    from frikort.v1 import common_pb2 as common

    period = common.DayPeriod(first_day=day(2022, 2, 1), last_day=day(2022, 2, 28))
    return common.PaymentFacts(
        amount_oere=oere, payment_date=day(2022, 3, 1), work_period=period, hours_hundredths=740
    )


def report(payments, person_id):
    first = payments.ReportPayment(payment("løn-1", 1_960_000), timeout=DEADLINE_SECONDS)
    check("the person", first.payment.person_id, person_id)
    check("recorded for the first time", first.replayed, False)

    # 400 kr. are left of the limit: the payment is split.
    second = payments.ReportPayment(payment("løn-2", 100_000), timeout=DEADLINE_SECONDS)
    check("exempt", second.payment.exempt_oere, 40_000)
    check("taxable", second.payment.taxable_oere, 60_000)
    check("the second payment's position", second.position.position, 4)

    again = payments.ReportPayment(payment("løn-2", 100_000), timeout=DEADLINE_SECONDS)
    check("recorded before", again.replayed, True)
    again.replayed = False
    check("the first answer again", again, second)

    dry = payment("løn-3", 100, validate_only=True)
    answer = payments.ReportPayment(dry, timeout=DEADLINE_SECONDS)
    check("a dry run stands at the head", answer.position.position, 4)

    from frikort.v1 import payment_service_pb2 as service

    run = [payment("løn-2", 100_000), payment("løn-4", 0), payment("løn-5", 1, cpr=UNKNOWN)]
    items = (service.ReportPaymentsRequest(payment=item) for item in run)
    results = list(payments.ReportPayments(items, timeout=DEADLINE_SECONDS))
    check("order on the stream", [result.index for result in results], [0, 1, 2])
    became = [result.WhichOneof("result") for result in results]
    check("results on the stream", became, ["recorded", "refused", "refused"])
    check("bad fields", [f.field for f in results[1].refused.fields], ["facts.amount_oere"])
    reasons = service.DESCRIPTOR.pool.FindEnumTypeByName("frikort.v1.ErrorReason")
    reason = reasons.values_by_number[results[2].refused.reason].name
    check("the reason on the stream", reason, "ERROR_REASON_NO_CARD")


def plan(payments):
    """A run is looked at whole, and committed by its token however its lines are written."""
    from frikort.v1 import payment_service_pb2 as service

    def send(lines, **options):
        messages = [service.ReportPaymentsRequest(run=service.RunOptions(**options))]
        messages += [service.ReportPaymentsRequest(payment=line) for line in lines]
        *results, last = payments.ReportPayments(iter(messages), timeout=DEADLINE_SECONDS)
        check("the last message", last.WhichOneof("result"), "totals")
        check("one result a line", len(results), len(lines))
        return last.totals

    new = payment("løn-7", 100)
    totals = send([payment("løn-2", 100_000), new, payment("løn-2", 1)], validate_only=True)
    counts = (totals.lines, totals.recorded, totals.already_there, totals.changed, totals.refused)
    check("what the run would do", counts, (3, 1, 1, 1, 0))
    sums = (totals.sum_oere, totals.exempt_oere, totals.taxable_oere)
    check("what the run comes to", sums, (100_101, 40_000, 60_100))

    planned = send([payment("løn-2", 100_000)], validate_only=True)
    other_way = payment("løn-2", 100_000, cpr=CPR.replace("-", ""))
    committed = send([other_way], plan_token=planned.plan_token)
    check("committed", (committed.already_there, committed.plan_token), (1, ""))


def refused(payments):
    """Rich errors, read by the packages that everybody reads them with."""
    reused = refusal(payments, payment("løn-2", 100_001))
    check("code", reused["code"], grpc.StatusCode.ALREADY_EXISTS)
    check("reason", reused["reason"], "REFERENCE_REUSED")
    check("the field that differs", reused["fields"], ["facts.amount_oere"])

    too_much = refusal(payments, payment("løn-6", 100, reject_if_exceeds=True))
    check("code", too_much["code"], grpc.StatusCode.FAILED_PRECONDITION)
    check("reason", too_much["reason"], "LIMIT_EXCEEDED")
    check("metadata", too_much["metadata"], {"exempt_oere": "0", "taxable_oere": "100"})
    check("precondition", too_much["preconditions"], ["LIMIT_EXCEEDED"])

    bad = refusal(payments, payment("", -1, cpr="3002605001"))
    check("code", bad["code"], grpc.StatusCode.INVALID_ARGUMENT)
    check("bad fields", bad["fields"], ["person.cpr_number", "reference", "facts.amount_oere"])
    check("nothing that was sent is shown", "3002605001" in bad["message"], False)


def refusal(payments, request):
    try:
        answer = payments.ReportPayment(request, timeout=DEADLINE_SECONDS)
    except grpc.RpcError as error:
        status = rpc_status.from_call(error)
        told = {"code": error.code(), "message": str(status), "fields": [], "preconditions": []}
        for detail in status.details:
            info = error_details_pb2.ErrorInfo()
            bad = error_details_pb2.BadRequest()
            failure = error_details_pb2.PreconditionFailure()
            if detail.Unpack(info):
                told["reason"], told["metadata"] = info.reason, dict(info.metadata)
                check("domain", info.domain, "frikort.v1")
            elif detail.Unpack(bad):
                told["fields"] = [violation.field for violation in bad.field_violations]
            elif detail.Unpack(failure):
                told["preconditions"] = [violation.type for violation in failure.violations]
        print(f"refused: {error.code().name} {told['reason']} {told['fields']}")
        return told
    raise SystemExit(f"accepted, although it had to be refused: {answer}")


def correct(payments):
    from frikort.v1 import common_pb2 as common
    from frikort.v1 import payment_service_pb2 as service

    request = service.CorrectPaymentRequest(
        person=common.PersonRef(cpr_number=CPR, frikort_id="00071"),
        employer_cvr=EMPLOYER,
        reference="løn-1",
        expected_revision=1,
        facts=facts(1_900_000),
    )
    answer = payments.CorrectPayment(request, timeout=DEADLINE_SECONDS)
    check("revision", answer.payment.revision, 2)
    check("used after the correction", answer.allowance.used_oere, 2_000_000)
    check("the correction's position", answer.position.position, 5)
    return answer.position.position


def ask(allowances, min_position):
    from frikort.v1 import allowance_service_pb2 as service
    from frikort.v1 import common_pb2 as common

    request = service.GetAllowanceRequest(
        person=common.PersonRef(cpr_number=CPR), year=2022, min_position=min_position
    )
    answer = allowances.GetAllowance(request, timeout=DEADLINE_SECONDS)
    allowance = answer.allowance
    check("as of", answer.position.position, min_position)
    check("limit", allowance.limit_oere, 2_000_000)
    check("total", allowance.total_oere, 2_000_000)
    check("used", allowance.used_oere, 2_000_000)
    check("remaining", allowance.remaining_oere, 0)
    check("taxable", allowance.taxable_oere, 0)
    check("payments", allowance.payment_count, 2)


def state(allowances, min_position):
    from frikort.v1 import allowance_service_pb2 as service
    from frikort.v1 import common_pb2 as common

    request = service.GetStatementRequest(
        person=common.PersonRef(cpr_number=CPR), min_position=min_position
    )
    answer = allowances.GetStatement(request, timeout=DEADLINE_SECONDS)
    told = [(p.reference, p.amount_oere, p.exempt_oere, p.taxable_oere) for p in answer.payments]
    # What the correction freed flowed to the second payment.
    check("splits", told, [("løn-1", 1_900_000, 1_900_000, 0), ("løn-2", 100_000, 100_000, 0)])
    check("facts", answer.payments[0].facts, facts(1_900_000))
    check("years", [allowance.year for allowance in answer.allowances], [2022])


def read(audits, person_id):
    from frikort.v1 import audit_service_pb2 as audit

    items = list(audits.ReadEvents(audit.ReadEventsRequest(), timeout=DEADLINE_SECONDS))
    check("the mark at the end", items[-1].caught_up.position, 5)
    lines = [item.event.record for item in items[:-1]]
    records = [json.loads(line) for line in lines]
    check("positions", [record["position"] for record in records], [1, 2, 3, 4, 5])
    check(
        "types",
        [record["type"] for record in records],
        [
            "annual_limit_set",
            "card_granted",
            "payment_reported",
            "payment_reported",
            "payment_corrected",
        ],
    )
    check("persons", {record.get("person_id") for record in records}, {None, person_id})
    check("an amount", records[3]["outcome"]["taxable"], "600.00")
    canonical = [
        json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
        for record in records
    ]
    check("the bytes are canonical JSON", lines, canonical)
    for number in (CPR, CPR.replace("-", "")):
        check("no CPR number in the history", any(number.encode() in line for line in lines), False)


def day(year, month, number):
    return Date(year=year, month=month, day=number)


def check(what, found, expected):
    if found != expected:
        raise SystemExit(f"{what}: found {found!r}, expected {expected!r}")


if __name__ == "__main__":
    main()
