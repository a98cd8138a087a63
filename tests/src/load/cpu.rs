//! Which process uses the processor, a call; and how much others use meanwhile, which is the
//! noise of the machine. From /proc, so on Linux only; elsewhere nothing is said.

use std::{collections::BTreeMap, fs, time::Instant};

/// Ticks of /proc are hundredths of a second on every Linux that we know.
const MICROS_PER_TICK: f64 = 10_000.0;

/// What was used between two looks.
#[derive(Clone, Debug, Default)]
pub(super) struct Used {
    /// By all of the tool's processes together, in microseconds a call.
    pub(super) each: f64,
    /// By each of them, and by others.
    pub(super) text: String,
}

/// Time used until now.
pub(super) struct Cpu {
    at: Instant,
    ticks: BTreeMap<&'static str, u64>,
    machine: u64,
}

impl Cpu {
    /// Looks at these processes, and their children.
    pub(super) fn now(pids: &[(&'static str, u32)]) -> Self {
        let children = children();
        let own_children = |pid: u32| children.iter().filter(move |(of, _)| *of == pid);
        let mut ticks = BTreeMap::new();
        for (name, pid) in pids {
            let mut used = used(*pid);
            if *name == "postgres" {
                used += own_children(*pid).map(|(_, child)| self::used(*child)).sum::<u64>();
            }
            ticks.insert(*name, used);
        }
        Self { at: Instant::now(), ticks, machine: machine() }
    }

    /// What was used since `before`, a call.
    pub(super) fn since(&self, before: &Self, calls: usize) -> Used {
        let calls = calls.max(1) as f64;
        let (mut ours, mut text) = (0, String::from("cpu µs/call:"));
        for (name, ticks) in &self.ticks {
            let used = ticks.saturating_sub(before.ticks.get(name).copied().unwrap_or_default());
            ours += used;
            let each = used as f64 * MICROS_PER_TICK / calls;
            if each >= 0.5 {
                text += &format!(" {name} {each:.0}");
            }
        }
        let others = self.machine.saturating_sub(before.machine).saturating_sub(ours) as f64;
        let cores = others * MICROS_PER_TICK / 1e6 / (self.at - before.at).as_secs_f64();
        text += &format!(", others use {cores:.2} cores");
        Used { each: ours as f64 * MICROS_PER_TICK / calls, text }
    }
}

/// User and system time of a process, and of its children that have ended.
fn used(pid: u32) -> u64 {
    fields(pid).map_or(0, |fields| fields[11..15].iter().flat_map(|f| f.parse::<u64>()).sum())
}

/// The fields of a process's `stat` from the third on.
fn fields(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<_> = stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect();
    (fields.len() > 15).then_some(fields)
}

/// Every process, with its parent before it.
fn children() -> Vec<(u32, u32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((fields(pid)?[1].parse().ok()?, pid))).collect()
}

/// Time that all processors were busy: user, nice, system, and interrupts.
fn machine() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let numbers: Vec<u64> =
        stat.lines().next().unwrap_or_default().split(' ').flat_map(str::parse).collect();
    [0, 1, 2, 5, 6].iter().filter_map(|at| numbers.get(*at)).sum()
}
