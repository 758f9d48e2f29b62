//! Whole clusters on one simulated clock: the protocol keeps its promises, and the judges notice when a rule is missing.
//!
//! `behind`: one node that cannot fetch. `mutants`: each is a rule taken out. `weather`: every rule kept, under every kind of fault.

mod behind;
mod mutants;
mod weather;
