//! The checker: every state that can be reached, breadth first, so that a counterexample is a shortest one.
//!
//! A state is known again by a 64-bit fingerprint; what is kept of it is who led to it and by which act. Not here: what
//! a state is (`state`), what can happen (`arrows`, `world`), what must hold (`promise`).

use std::collections::{HashMap, VecDeque};
use std::fmt::Display;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// What is checked.
pub trait Model {
    /// A state of the whole world.
    type State: Clone + Hash;
    /// What leads from one to the next.
    type Act: Copy + PartialEq + Display;

    /// Where it begins.
    fn start(&self) -> Self::State;
    /// All that can happen. `true`: it is work of the program, and needs no trouble and no operator.
    fn next(&self, state: &Self::State, out: &mut Vec<(Self::Act, bool, Self::State)>);
    /// What is broken in this state.
    fn broken(&self, state: &Self::State) -> Option<&'static str>;
    /// Whether all work is done; asked where nothing is left for the program to do.
    fn is_end(&self, state: &Self::State) -> bool;
    /// The state for people.
    fn show(&self, state: &Self::State) -> String;
}

/// What came of it.
pub struct Found {
    /// Different states.
    pub states: usize,
    /// Steps between them.
    pub steps: usize,
    /// States in which all was done.
    pub ends: usize,
    /// What broke, and how it came to it.
    pub violation: Option<(&'static str, String)>,
}

/// Nothing is left to do, yet work lies there.
pub const STUCK: &str = "stuck: nobody can go on";
/// There is always something to do, yet it leads nowhere.
pub const ENDLESS: &str = "no way to an end";

/// Multiply and rotate: quick also without optimisation.
#[derive(Default)]
struct Print(u64);

impl Hasher for Print {
    fn finish(&self) -> u64 {
        let x = (self.0 ^ (self.0 >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        x ^ (x >> 29)
    }
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.write_u64(u64::from(b));
        }
    }
    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }
    fn write_u16(&mut self, n: u16) {
        self.write_u64(u64::from(n));
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0xF135_7AEA_2E62_A9C5);
    }
    fn write_isize(&mut self, n: isize) {
        self.write_u64(n as u64);
    }
}

/// Fingerprints are spread well already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints")
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

fn print(state: &impl Hash) -> u64 {
    let mut hasher = Print::default();
    state.hash(&mut hasher);
    hasher.finish()
}

/// Looks at every state, or up to the first that is broken.
pub fn explore<M: Model>(model: &M) -> Found {
    let mut known: HashMap<u64, u32, BuildHasherDefault<AsItIs>> = HashMap::default();
    let mut came_by: Vec<(u32, Option<M::Act>)> = vec![(0, None)];
    let mut work_edges: Vec<(u32, u32)> = Vec::new();
    let mut ends = Vec::new();
    let mut steps = 0;
    let mut queue = VecDeque::new();
    let mut next = Vec::new();
    let start = model.start();
    known.insert(print(&start), 0);
    queue.push_back((0_u32, start));
    let mut violation = None;
    'all: while let Some((at, state)) = queue.pop_front() {
        model.next(&state, &mut next);
        let mut any_work = false;
        for (act, work, after) in next.drain(..) {
            steps += 1;
            any_work |= work;
            let fresh = came_by.len() as u32;
            let to = *known.entry(print(&after)).or_insert(fresh);
            if work {
                work_edges.push((to, at));
            }
            if to != fresh {
                continue;
            }
            came_by.push((at, Some(act)));
            if let Some(what) = model.broken(&after) {
                violation = Some((what, to));
                break 'all;
            }
            queue.push_back((to, after));
        }
        if !any_work {
            if !model.is_end(&state) {
                violation = Some((STUCK, at));
                break;
            }
            ends.push(at);
        }
    }
    let states = came_by.len();
    let ended = ends.len();
    if violation.is_none() {
        violation = without_an_end(states, &mut work_edges, ends).map(|at| (ENDLESS, at));
    }
    Found {
        states,
        steps,
        ends: ended,
        violation: violation.map(|(what, at)| (what, trace(model, &came_by, at))),
    }
}

/// The first state from which the program alone cannot reach an end.
fn without_an_end(states: usize, edges: &mut [(u32, u32)], mut todo: Vec<u32>) -> Option<u32> {
    edges.sort_unstable();
    let mut good = vec![false; states];
    for &end in &todo {
        good[end as usize] = true;
    }
    while let Some(at) = todo.pop() {
        let first = edges.partition_point(|(to, _)| *to < at);
        for (_, from) in edges[first..].iter().take_while(|(to, _)| *to == at) {
            if !good[*from as usize] {
                good[*from as usize] = true;
                todo.push(*from);
            }
        }
    }
    good.iter().position(|good| !good).map(|at| at as u32)
}

fn trace<M: Model>(model: &M, came_by: &[(u32, Option<M::Act>)], mut at: u32) -> String {
    let mut acts = Vec::new();
    while let (before, Some(act)) = came_by[at as usize] {
        acts.push(act);
        at = before;
    }
    let mut state = model.start();
    let mut text = format!("      {}\n", model.show(&state));
    let mut next = Vec::new();
    for (number, act) in acts.iter().rev().enumerate() {
        model.next(&state, &mut next);
        let found = next.drain(..).find(|(other, ..)| other == act);
        state = found.expect("an act has one outcome").2;
        text.push_str(&format!(
            "  {:>2}. {act}\n      {}\n",
            number + 1,
            model.show(&state)
        ));
    }
    text
}
