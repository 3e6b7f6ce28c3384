//! Every order of the steps of a small model: what must hold is checked in each state that can be reached.
//!
//! A model is a value: the code under test as it is, around it those who call it, each at some point of what it does.
//! One step is what happens under one lock, or what one thread sees of another at once. Orders are explored breadth
//! first and each state once, so that the steps to a fault are as few as there can be.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;

/// The most states of one model.
const MAX_STATES: usize = 2_000_000;

/// A state of what is explored.
pub trait Model: Clone + Eq + Hash + Debug {
    /// What can happen next, each with its name and the state that it leads to.
    fn steps(&self) -> Vec<(String, Self)>;

    /// What must hold in this state.
    ///
    /// # Errors
    /// What does not hold.
    fn check(&self) -> Result<(), String>;
}

/// Goes through all states that can be reached from `start`; answers how many there are.
///
/// # Errors
/// A check that failed: its message, the steps that led there, and the state.
///
/// # Panics
/// When there are more than two million states.
pub fn explore<M: Model>(start: M) -> Result<usize, String> {
    let mut seen = HashSet::from([start.clone()]);
    // Each state with the name of the step to it, and the number of the one before.
    let mut states = vec![(start, String::new(), 0)];
    let mut next = 0;
    while next < states.len() {
        let state = states[next].0.clone();
        if let Err(fault) = state.check() {
            return Err(format!("{fault}, after {:?}: {state:#?}", path(&states, next)));
        }
        for (name, state) in state.steps() {
            if seen.insert(state.clone()) {
                states.push((state, name, next));
            }
        }
        assert!(states.len() <= MAX_STATES, "more than {MAX_STATES} states");
        next += 1;
    }
    Ok(states.len())
}

/// The names of the steps to a state.
fn path<M>(states: &[(M, String, usize)], mut number: usize) -> Vec<String> {
    let mut names = Vec::new();
    while number > 0 {
        names.push(states[number].1.clone());
        number = states[number].2;
    }
    names.reverse();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two threads that add one to a number: at once, or in two steps.
    #[derive(Clone, PartialEq, Eq, Hash, Debug)]
    struct Adders {
        is_at_once: bool,
        number: usize,
        /// What each has read, and whether it is done.
        threads: [(Option<usize>, bool); 2],
    }

    impl Model for Adders {
        fn steps(&self) -> Vec<(String, Adders)> {
            let mut steps = Vec::new();
            for (number, (read, is_done)) in self.threads.iter().enumerate() {
                let mut after = self.clone();
                let thread = &mut after.threads[number];
                match read {
                    _ if *is_done => continue,
                    None if !self.is_at_once => thread.0 = Some(self.number),
                    read => {
                        thread.1 = true;
                        after.number = read.unwrap_or(self.number) + 1;
                    }
                }
                steps.push((format!("thread {number}"), after));
            }
            steps
        }

        fn check(&self) -> Result<(), String> {
            let is_lost = self.threads.iter().all(|(_, is_done)| *is_done) && self.number != 2;
            if is_lost { Err(format!("the number is {}", self.number)) } else { Ok(()) }
        }
    }

    #[test]
    fn a_lost_update_is_found_with_the_steps_to_it() {
        let adders = Adders { is_at_once: false, number: 0, threads: [(None, false); 2] };
        let fault = explore(adders.clone()).unwrap_err();
        let steps = r#"the number is 1, after ["thread 0", "thread 1", "thread 0", "thread 1"]"#;
        assert!(fault.starts_with(steps), "{fault}");
        assert_eq!(explore(Adders { is_at_once: true, ..adders }), Ok(4));
    }
}
