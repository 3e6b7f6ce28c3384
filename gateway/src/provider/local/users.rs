//! Which user runs each function where the gateway starts as root, so that functions cannot read, signal or trace the
//! gateway and each other.

use crate::function::FunctionName;
use crate::provider::local::functions_file::MAX_FUNCTIONS;

/// One user for each function that a file may have.
const COUNT: u32 = MAX_FUNCTIONS as u32;

/// The users that were given away. A function keeps its own for as long as the gateway runs, also while it is not in the
/// file.
pub(super) struct Users {
    /// The first of [`COUNT`] user ids; without it functions run as the gateway's own user.
    first: Option<u32>,
    /// Whose each of them is, in their order.
    owners: Vec<FunctionName>,
}

impl Users {
    pub(super) fn new(first: Option<u32>) -> Users {
        Users { first, owners: Vec::new() }
    }

    /// The user of `name`; a new function gets one that nobody has had, or the first one whose owner is not `in_use`
    /// any more.
    pub(super) fn of(&mut self, name: &FunctionName, in_use: &dyn Fn(&FunctionName) -> bool) -> Option<u32> {
        let first = self.first?;
        let known = self.owners.iter().position(|owner| owner == name);
        let place = match known {
            Some(place) => place,
            None if self.owners.len() < COUNT as usize => {
                self.owners.push(name.clone());
                self.owners.len() - 1
            }
            None => {
                let place = self.owners.iter().position(|owner| !in_use(owner))?; // a file has no more functions
                self.owners[place] = name.clone();
                place
            }
        };
        Some(first + place as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u32) -> FunctionName {
        FunctionName::parse(format!("f{number}").as_bytes()).unwrap()
    }

    #[test]
    fn each_function_has_a_user_of_its_own_and_keeps_it() {
        let mut users = Users::new(Some(70_000));
        let in_use = |owner: &FunctionName| owner.as_str() != "f7";
        for _ in 0..2 {
            for number in 0..COUNT {
                assert_eq!(users.of(&name(number), &in_use), Some(70_000 + number));
            }
        }
        assert_eq!(users.of(&name(COUNT), &in_use), Some(70_007), "whose owner is gone");
        assert_eq!(users.of(&name(8), &in_use), Some(70_008));
    }

    #[test]
    fn without_a_first_one_nobody_has_one() {
        assert_eq!(Users::new(None).of(&name(1), &|_| true), None);
    }
}
