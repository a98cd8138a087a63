//! VisitationService: a municipality's decisions about a person's card.

use std::sync::Arc;

use frikort_access::Looking;
use frikort_domain::{CardStatus, Command, Cpr, FrikortTag, NumberTag, PersonId};
use frikort_proto::{
    error::Failure,
    v1::{
        self, ChangeCprNumberRequest, ChangeCprNumberResponse, DeactivateCardRequest,
        DeactivateCardResponse, ErrorReason, GetCardRequest, GetCardResponse, GrantCardRequest,
        GrantCardResponse, ReactivateCardRequest, ReactivateCardResponse, RecordControlRequest,
        RecordControlResponse, ReissueCardRequest, ReissueCardResponse, RejectApplicationRequest,
        RejectApplicationResponse, ReverseDecisionRequest, ReverseDecisionResponse,
        TransferCardRequest, TransferCardResponse, Warning,
        visitation_service_server::VisitationService,
    },
};
use frikort_register::{Named, Person, Who};
use time::Date;
use tonic::{Request, Response, Status};

use crate::{
    fail::{internal, store_unavailable},
    ledger::{Acting, By, Caller, Ledger, Told, nobody, only_looked},
    parse::{self, Grant, NewNumber, Parsed, Reissue},
    render,
    sequencer::{Answer, Ask, Body, Refused},
};

pub(crate) struct Visitations(pub(crate) Arc<Ledger>);

#[tonic::async_trait]
impl VisitationService for Visitations {
    async fn grant_card(
        &self,
        request: Request<GrantCardRequest>,
    ) -> Result<Response<GrantCardResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let validate_only = request.validate_only;
        let acting = caller.acting(parse::grant(request, self.0.today())?)?;
        let told = self.grant(acting, validate_only).await?;
        Ok(Response::new(GrantCardResponse {
            card: Some(card(&told)?),
            position: Some(told.place()),
            replayed: told.answer.replayed,
        }))
    }

    async fn reject_application(
        &self,
        request: Request<RejectApplicationRequest>,
    ) -> Result<Response<RejectApplicationResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let validate_only = request.validate_only;
        let acting = caller.acting(parse::reject(request, self.0.today())?)?;
        let told = self.reject(acting, validate_only).await?;
        Ok(Response::new(RejectApplicationResponse {
            person_id: told.person.to_string(),
            position: Some(told.place()),
            replayed: told.answer.replayed,
        }))
    }

    async fn deactivate_card(
        &self,
        request: Request<DeactivateCardRequest>,
    ) -> Result<Response<DeactivateCardResponse>, Status> {
        let told = self.decide(request, |request| request.validate_only, parse::deactivate).await?;
        Ok(Response::new(DeactivateCardResponse {
            card: Some(card(&told)?),
            payments_after: payments_after(&told),
            position: Some(told.place()),
            replayed: told.answer.replayed,
            warnings: still_active(&told).into_iter().map(Into::into).collect(),
        }))
    }

    async fn reactivate_card(
        &self,
        request: Request<ReactivateCardRequest>,
    ) -> Result<Response<ReactivateCardResponse>, Status> {
        let told = self.decide(request, |request| request.validate_only, parse::reactivate).await?;
        Ok(Response::new(ReactivateCardResponse {
            card: Some(card(&told)?),
            position: Some(told.place()),
            replayed: told.answer.replayed,
        }))
    }

    async fn reverse_decision(
        &self,
        request: Request<ReverseDecisionRequest>,
    ) -> Result<Response<ReverseDecisionResponse>, Status> {
        let told = self.decide(request, |request| request.validate_only, parse::reverse).await?;
        Ok(Response::new(ReverseDecisionResponse {
            card: Some(card(&told)?),
            position: Some(told.place()),
            replayed: told.answer.replayed,
        }))
    }

    async fn reissue_card(
        &self,
        request: Request<ReissueCardRequest>,
    ) -> Result<Response<ReissueCardResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let validate_only = request.validate_only;
        let acting = caller.acting(parse::reissue(request, self.0.today())?)?;
        let told = self.reissue(acting, validate_only).await?;
        Ok(Response::new(ReissueCardResponse {
            card: Some(card(&told)?),
            position: Some(told.place()),
            replayed: told.answer.replayed,
        }))
    }

    async fn transfer_card(
        &self,
        request: Request<TransferCardRequest>,
    ) -> Result<Response<TransferCardResponse>, Status> {
        let told = self.decide(request, |request| request.validate_only, parse::transfer).await?;
        Ok(Response::new(TransferCardResponse {
            card: Some(card(&told)?),
            position: Some(told.place()),
            replayed: told.answer.replayed,
        }))
    }

    async fn record_control(
        &self,
        request: Request<RecordControlRequest>,
    ) -> Result<Response<RecordControlResponse>, Status> {
        let told = self.decide(request, |request| request.validate_only, parse::control).await?;
        Ok(Response::new(RecordControlResponse {
            card: Some(card(&told)?),
            position: Some(told.place()),
            replayed: told.answer.replayed,
        }))
    }

    async fn change_cpr_number(
        &self,
        request: Request<ChangeCprNumberRequest>,
    ) -> Result<Response<ChangeCprNumberResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let validate_only = request.validate_only;
        let acting = caller.acting(parse::new_number(request, self.0.today())?)?;
        let told = self.change_number(acting, validate_only).await?;
        Ok(Response::new(ChangeCprNumberResponse {
            card: Some(card(&told)?),
            position: Some(told.place()),
            replayed: told.answer.replayed,
        }))
    }

    async fn get_card(
        &self,
        request: Request<GetCardRequest>,
    ) -> Result<Response<GetCardResponse>, Status> {
        let caller = Caller::of(&request)?;
        let named = parse::person(request.into_inner().person)?;
        let who = caller.looking.who.clone();
        let (person, told) = self.0.card(&named, caller).await?;
        let Body::Case(card, decisions) = &told.answer.body else { return Err(internal().into()) };
        // W2, W3: whom another municipality answers for is nobody here.
        who.acts_for_municipality(card.municipality, "person").map_err(|_| nobody())?;
        let decisions = decisions.iter();
        Ok(Response::new(GetCardResponse {
            card: Some(render::card(told.person, card)),
            position: Some(told.place()),
            decisions: decisions.filter_map(|d| render::decision(person.partition, d)).collect(),
        }))
    }
}

/// Whom a first decision is about.
enum Entered {
    /// Somebody in the register.
    Person(Person),
    /// Somebody new, and what the decision would come to.
    WouldBe(Answer),
}

fn card(told: &Told) -> Result<v1::Card, Failure> {
    match &told.answer.body {
        Body::Card(Some(card), _) => Ok(render::card(told.person, card)),
        _ => Err(internal()),
    }
}

/// C14.
fn own_number() -> Failure {
    let own = "must be another number than the person has".to_owned();
    Failure::invalid(vec![("new_cpr_number".to_owned(), own)])
}

fn payments_after(told: &Told) -> Vec<v1::Payment> {
    match &told.answer.body {
        Body::Card(_, payments) => {
            payments.iter().map(|(key, state)| render::standing(told.person, key, state)).collect()
        }
        _ => Vec::new(),
    }
}

/// C12: what a deactivation that left the card active is answered with.
fn still_active(told: &Told) -> Option<Warning> {
    match &told.answer.body {
        Body::Card(Some(card), _) if card.status == CardStatus::Active => {
            Some(Warning::CardStillActive)
        }
        _ => None,
    }
}

impl Visitations {
    /// A decision about a card that was granted: read, and decided by the person's partition.
    async fn decide<R>(
        &self,
        request: Request<R>,
        validate_only: fn(&R) -> bool,
        parse: fn(R, Date) -> Result<Parsed, Failure>,
    ) -> Result<Told, Failure> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let validate_only = validate_only(&request);
        let acting = caller.acting(parse(request, self.0.today())?)?;
        self.0.decide(acting, validate_only).await
    }

    /// A grant finds the person, or enters a new one in the register. Entering alone grants
    /// nothing: somebody without events is somebody without a card.
    async fn grant(&self, acting: Acting<Grant>, validate_only: bool) -> Result<Told, Failure> {
        let Acting { parsed: Parsed { named, command: grant }, by, looking } = acting;
        let as_first = |cpr: &Cpr| {
            let born = cpr.birth_date().ok_or_else(internal)?;
            Ok(grant.clone().finish(FrikortTag([0; 16]), born))
        };
        let person = match self.find_or_enter(&looking, &named, as_first, validate_only).await? {
            Entered::Person(person) => person,
            Entered::WouldBe(answer) => return Ok(Told::nobody(answer)),
        };
        let born = self.birth_date(&named, person.id).await?;
        let tag = self.0.register.frikort_tag(&person, grant.frikort_id);
        self.decide_first(&looking, &person, grant.finish(tag, born), validate_only, by).await
    }

    /// A rejection finds the person, or enters a new one, as a grant does.
    async fn reject(&self, acting: Acting, validate_only: bool) -> Result<Told, Failure> {
        let Acting { parsed: Parsed { named, command }, by, looking } = acting;
        let as_first = |_: &Cpr| Ok(command.clone());
        let person = match self.find_or_enter(&looking, &named, as_first, validate_only).await? {
            Entered::Person(person) => person,
            Entered::WouldBe(answer) => return Ok(Told::nobody(answer)),
        };
        self.decide_first(&looking, &person, command, validate_only, by).await
    }

    /// What comes of a grant or a rejection. A try leaves nothing behind, so it tells whoever may not
    /// see the card that there is, if any, what it would tell of somebody new (W3).
    async fn decide_first(
        &self,
        looking: &Looking,
        person: &Person,
        command: Command,
        validate_only: bool,
        by: By,
    ) -> Result<Told, Failure> {
        let ask = Ask::Command(person.into(), command.clone());
        let answer = self.0.ask(person.partition, ask, validate_only, by.clone()).await?;
        if validate_only && !answer.replayed && !self.may_see_card(looking, person, by).await? {
            return Ok(Told::nobody(self.0.decide_unknown(&command)?));
        }
        Ok(Told::new(person, answer))
    }

    /// Whether the person has, or had, a card, and the caller acts for whose it is (W2).
    async fn may_see_card(
        &self,
        looking: &Looking,
        person: &Person,
        by: By,
    ) -> Result<bool, Failure> {
        match self.0.ask(person.partition, Ask::Card(person.into(), None), true, by).await {
            Ok(Answer { body: Body::Case(card, _), .. }) => {
                Ok(looking.who.acts_for_municipality(card.municipality, "person").is_ok())
            }
            Ok(_) => Err(internal()),
            Err(failure) if failure.reason == ErrorReason::NoCard => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// The person named; one who is new is entered, unless the decision `as_first` about somebody
    /// without events would be refused, or is only tried.
    async fn find_or_enter(
        &self,
        looking: &Looking,
        named: &Named,
        as_first: impl FnOnce(&Cpr) -> Result<Command, Failure>,
        validate_only: bool,
    ) -> Result<Entered, Failure> {
        if let Some((person, _)) = self.find(looking, named).await? {
            return Ok(Entered::Person(person));
        }
        let Who::Cpr(cpr) = &named.who else {
            let unknown = "is not known; name a new person by cpr_number".to_owned();
            return Err(Failure::invalid(vec![("person.person_id".to_owned(), unknown)]));
        };
        let answer = self.0.decide_unknown(&as_first(cpr)?)?;
        if validate_only {
            return Ok(Entered::WouldBe(answer));
        }
        let partitions = self.0.limits.open_partitions();
        if partitions.is_empty() {
            return Err(store_unavailable());
        }
        let entered = self.0.register.find_or_enter(cpr, &partitions).await;
        let person = entered.map_err(|error| self.0.read_failed(error))?;
        Ok(Entered::Person(person.ok_or_else(internal)?))
    }

    async fn reissue(&self, acting: Acting<Reissue>, validate_only: bool) -> Result<Told, Failure> {
        let Acting { parsed: Parsed { named, command: reissue }, by, looking } = acting;
        let Some((person, frikort)) = self.find(&looking, &named).await? else {
            let of_nobody = reissue.finish(None, FrikortTag([0; 16]));
            return Ok(Told::nobody(self.0.decide_unknown(&of_nobody)?));
        };
        let tag = self.0.register.frikort_tag(&person, reissue.frikort_id);
        let ask = Ask::Command((&person).into(), reissue.finish(frikort, tag));
        let answer = self.0.ask(person.partition, ask, validate_only, by).await?;
        Ok(Told::new(&person, answer))
    }

    /// Records the change and enters the new number, both in one transaction.
    ///
    /// Whose the new number is, is looked up when all else allows the change, and not for a try:
    /// otherwise the method would tell, of any number, whether it is in the register (W3).
    async fn change_number(
        &self,
        acting: Acting<NewNumber>,
        validate_only: bool,
    ) -> Result<Told, Failure> {
        let Acting { parsed: Parsed { named, command: change }, by, looking } = acting;
        let cpr = change.cpr.clone();
        // The request alone says that it changes nothing, whoever it is about, unless it repeats a
        // change by the new number (C14).
        let names_new = matches!(&named.who, Who::Cpr(old) if *old == cpr);
        let Some((person, frikort)) = self.find(&looking, &named).await? else {
            let of_nobody = change.finish(None, NumberTag([0; 16]));
            let refused = self.0.decide_unknown(&of_nobody).map(Told::nobody);
            return if names_new { Err(own_number()) } else { refused };
        };
        let number = self.0.register.number_tag(&person, &cpr);
        let command = change.finish(frikort, number);
        let ask = Ask::Command((&person).into(), command.clone());
        let tried = match self.0.ask(person.partition, ask, true, by.clone()).await {
            Ok(answer) if answer.replayed => {
                if !validate_only {
                    self.enter_recorded_number(&person, &cpr).await?;
                }
                return Ok(Told::new(&person, answer));
            }
            outcome if names_new && only_looked(true, outcome.as_ref()) => {
                return Err(own_number());
            }
            outcome => outcome?,
        };
        let own = self.0.register.leads_to(&cpr, &person).await;
        if own.map_err(|error| self.0.read_failed(error))? {
            return self.changed_before(&person, command, by).await;
        }
        if validate_only {
            return Ok(Told::new(&person, tried));
        }
        if let Some(holder) = self.holder_of_number(&cpr).await? {
            return self.refuse_number(&looking, &person, holder, command, by).await;
        }
        let new_number = Box::new(self.0.register.new_number(&person, &cpr));
        let ask = Ask::ChangeNumber((&person).into(), command.clone(), new_number);
        match self.0.ask(person.partition, ask, false, by.clone()).await {
            // Another call was quicker.
            Err(failure) if failure.reason == ErrorReason::InvalidField => {
                match self.holder_of_number(&cpr).await? {
                    Some(holder) => {
                        self.refuse_number(&looking, &person, holder, command, by).await
                    }
                    // The holder, or the person, was forgotten meanwhile: a repeat shows which.
                    None => Err(Refused::Overloaded.into()),
                }
            }
            outcome => Ok(Told::new(&person, outcome?)),
        }
    }

    async fn holder_of_number(&self, cpr: &Cpr) -> Result<Option<Person>, Failure> {
        let holder = self.0.register.find_cpr(cpr).await;
        holder.map_err(|error| self.0.read_failed(error))
    }

    /// What is answered where the new number leads to somebody. That another's was looked up is noted
    /// (W4).
    async fn refuse_number(
        &self,
        looking: &Looking,
        person: &Person,
        holder: Person,
        command: Command,
        by: By,
    ) -> Result<Told, Failure> {
        if holder.id == person.id {
            return self.changed_before(person, command, by).await;
        }
        self.0.look(looking, Some(holder.id))?;
        Err(Refused::NumberTaken.into())
    }

    /// What is answered where the new number leads to the person: that of the change, if the same
    /// request has been recorded since it was tried. It was sent twice then.
    async fn changed_before(
        &self,
        person: &Person,
        command: Command,
        by: By,
    ) -> Result<Told, Failure> {
        let ask = Ask::Command(person.into(), command);
        let answer = self.0.ask(person.partition, ask, true, by).await?;
        if answer.replayed { Ok(Told::new(person, answer)) } else { Err(own_number()) }
    }

    /// Enters the number of a change that is on record, where it is not in the register: older
    /// versions could be cut off between the two.
    async fn enter_recorded_number(&self, person: &Person, cpr: &Cpr) -> Result<(), Failure> {
        let holder = self.0.register.enter_number(person, cpr).await;
        let holder = holder.map_err(|error| self.0.read_failed(error))?;
        if let Some(other) = holder.filter(|holder| holder.id != person.id) {
            tracing::error!(
                person = %person.id,
                other = %other.id,
                "a change of CPR number is on record, and the number leads to another person"
            );
        }
        Ok(())
    }

    /// The person named; noted as a look-up, whatever comes of it: what is decided here is seldom.
    async fn find(
        &self,
        looking: &Looking,
        named: &Named,
    ) -> Result<Option<(Person, Option<FrikortTag>)>, Failure> {
        let found = self.0.find(named).await?;
        self.0.look(looking, found.as_ref().map(|(person, _)| person.id))?;
        Ok(found)
    }

    async fn birth_date(&self, named: &Named, id: PersonId) -> Result<Date, Failure> {
        let born = match &named.who {
            Who::Cpr(cpr) => cpr.birth_date(),
            Who::Id(_) => {
                let born = self.0.register.birth_date(id).await;
                born.map_err(|error| self.0.read_failed(error))?
            }
        };
        born.ok_or_else(|| {
            tracing::error!(person = %id, "the person's CPR number cannot be unsealed");
            internal()
        })
    }
}
