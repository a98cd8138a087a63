//! From a list that fails to a small one that fails, too.

use std::collections::BTreeSet;

use super::{
    Difference,
    list::{List, Op},
};

/// Tries ever smaller lists as long as they fail, and so many tries at most. `fails` runs one and
/// says what differed. Gives the smallest, with its difference.
pub async fn shrink(
    list: &List,
    found: Difference,
    mut tries: usize,
    fails: impl AsyncFn(&List) -> Option<Difference>,
) -> List {
    let mut smallest = Smallest { list: list.clone(), found };
    for smaller in [after_cut, without_others] {
        let ops = smaller(&smallest);
        smallest.take_if_it_fails(ops, &mut tries, &fails).await;
    }
    // Ever smaller parts are left out, from the end, since the beginning is the ground.
    let mut part = smallest.list.ops.len().div_ceil(2);
    while part > 0 && tries > 0 {
        let mut end = smallest.list.ops.len();
        while end > 0 && tries > 0 {
            let begin = end.saturating_sub(part);
            let mut ops = smallest.list.ops.clone();
            ops.drain(begin..end);
            smallest.take_if_it_fails(ops, &mut tries, &fails).await;
            end = begin.min(smallest.list.ops.len());
        }
        part = if part == 1 { 0 } else { part.div_ceil(2) };
    }
    List { difference: smallest.found.to_string(), ..smallest.list }
}

struct Smallest {
    list: List,
    found: Difference,
}

impl Smallest {
    async fn take_if_it_fails(
        &mut self,
        ops: Vec<Op>,
        tries: &mut usize,
        fails: &impl AsyncFn(&List) -> Option<Difference>,
    ) {
        if ops.is_empty() || ops.len() >= self.list.ops.len() || *tries == 0 {
            return;
        }
        *tries -= 1;
        let list = self.list.with(ops);
        if let Some(found) = fails(&list).await {
            *self = Self { list, found };
        }
    }
}

/// What comes after the difference is not needed for it.
fn after_cut(smallest: &Smallest) -> Vec<Op> {
    let end = smallest.found.op.map_or(smallest.list.ops.len(), |op| op + 1);
    smallest.list.ops.iter().take(end).cloned().collect()
}

/// Only the limits, and what concerns the persons of the operation that differed.
fn without_others(smallest: &Smallest) -> Vec<Op> {
    let ops = &smallest.list.ops;
    let failing = smallest.found.op.and_then(|op| ops.get(op));
    let mut persons: BTreeSet<usize> = smallest.found.person.into_iter().collect();
    persons.extend(failing.iter().flat_map(|op| op.persons()));
    if persons.is_empty() {
        return Vec::new();
    }
    let mut kept = Vec::new();
    for op in ops {
        match op {
            Op::Limit(_) => kept.push(op.clone()),
            Op::Stream(calls) => {
                let calls: Vec<_> =
                    calls.iter().filter(|call| persons.contains(&call.person)).cloned().collect();
                if !calls.is_empty() {
                    kept.push(Op::Stream(calls));
                }
            }
            op if op.persons().iter().any(|person| persons.contains(person)) => {
                kept.push(op.clone());
            }
            _ => {}
        }
    }
    kept
}
