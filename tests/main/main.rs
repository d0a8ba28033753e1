//! The whole program against real kernels, fake hosts, bad input and containers.

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod container;
mod hold;
mod hosts;
mod kernel;
mod lasting;
