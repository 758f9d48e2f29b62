//! One node: `step(now, Event) -> Vec<Action>`, and one heap of deadlines.
//!
//! In: events and the time at which they were seen. Out: actions, in an order that is part of the contract.
//! Not here: any IO (`agent`), the simulated world (`sim`).
