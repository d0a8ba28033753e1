//! The commands, a module for each.

pub mod doctor;
pub mod hold;
pub mod persist;
pub mod run;
