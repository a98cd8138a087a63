//! Whom a request names: the `PersonRef` of the wire, parsed, and looked up.

use frikort_domain::{Cpr, FrikortId, FrikortTag, PersonId};
use frikort_proto::{
    error::Faults,
    v1::{PersonRef, person_ref},
};
use uuid::Uuid;

use crate::{Person, Register};

/// A person as a request names one.
#[derive(Clone, Debug)]
pub enum Who {
    /// By CPR number.
    Cpr(Cpr),
    /// By the ledger's id.
    Id(PersonId),
}

/// A person and the Frikort-ID given beside, as a request names them.
#[derive(Clone, Debug)]
pub struct Named {
    /// The person.
    pub who: Who,
    /// The Frikort-ID, where given.
    pub frikort_id: Option<FrikortId>,
}

impl Named {
    /// Reads a `PersonRef`, noting what is wrong with it.
    pub fn parse(faults: &mut Faults, field: &str, person: Option<PersonRef>) -> Option<Self> {
        let person = faults.required(field, person)?;
        let before = faults.count();
        let frikort_id = faults.parse_optional(&format!("{field}.frikort_id"), &person.frikort_id);
        let who = match person.person {
            Some(person_ref::Person::CprNumber(text)) => {
                faults.parse(&format!("{field}.cpr_number"), &text).map(Who::Cpr)
            }
            Some(person_ref::Person::PersonId(text)) => {
                let id = Uuid::parse_str(&text).ok();
                if id.is_none() {
                    faults.note(&format!("{field}.person_id"), "must be a UUID");
                }
                id.map(|id| Who::Id(PersonId(id)))
            }
            None => {
                faults.note(field, "is required: cpr_number or person_id");
                None
            }
        };
        (faults.count() == before).then_some(Self { who: who?, frikort_id })
    }
}

impl Register {
    /// As [`Register::find_named`], of one person and from memory: `None` says nothing.
    pub fn known_named(&self, named: &Named) -> Option<(Person, Option<FrikortTag>)> {
        let Who::Cpr(cpr) = &named.who else { return None };
        self.known(cpr).map(|person| self.with_tag(person, named))
    }

    /// Looks up the persons whom requests name, with one query for all CPR numbers, and turns
    /// each Frikort-ID into its person's tag.
    pub async fn find_named(
        &self,
        named: &[&Named],
    ) -> Result<Vec<Option<(Person, Option<FrikortTag>)>>, sqlx::Error> {
        let cprs: Vec<Cpr> = named
            .iter()
            .filter_map(|named| match &named.who {
                Who::Cpr(cpr) => Some(cpr.clone()),
                Who::Id(_) => None,
            })
            .collect();
        let mut by_cpr = self.find_cprs(&cprs).await?.into_iter();
        let mut found = Vec::with_capacity(named.len());
        for named in named {
            let person = match named.who {
                Who::Cpr(_) => by_cpr.next().flatten(),
                Who::Id(id) => self.find_id(id).await?,
            };
            found.push(person.map(|person| self.with_tag(person, named)));
        }
        Ok(found)
    }

    fn with_tag(&self, person: Person, named: &Named) -> (Person, Option<FrikortTag>) {
        (person, named.frikort_id.map(|id| self.frikort_tag(&person, id)))
    }
}
