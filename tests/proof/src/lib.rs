//! A model checker for the flows of `core` as they are shipped. Each flow that runs is a process; each call of a port is a step. The
//! checker runs the steps of a few processes in every order, with crashes, lost replies and late clocks, and checks the same
//! properties after every step.
//!
//! A future can be neither copied nor compared. But what a flow does next follows from the replies that it was given and the times
//! that it has read. So a process is a table, filled as it is needed (`automaton.rs`): from a local state and a reply to the next
//! local state, found once by running the flow again from its beginning. A state of the whole is then a small value (`state.rs`):
//! rows, objects, and a number for each process. The search is breadth first (`explore.rs`), so a counterexample is among the shortest.
//!
//! stateright was not taken: what it needs, a state to clone and to hash, is the table above, and what it adds, a search, has neither a bound
//! on preemptions nor an ending for states in which all processes are over.

mod actor;
mod automaton;
mod call;
mod ending;
mod explore;
mod names;
mod port;
mod property;
mod scenario;
mod state;
mod step;
mod trace;

pub use explore::{Explored, explore};
pub use scenario::{Mistake, Order, Scenario};
