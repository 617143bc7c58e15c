//! The `recorder` program as a child process: how it refuses, and what it keeps when it is killed.

#[cfg(test)]
mod child;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod sender;
#[cfg(test)]
mod tables;
