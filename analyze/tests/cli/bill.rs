//! Invoices: whole commands from tables and tariffs to documents.

mod closing;
mod examples;
mod property;
mod refusals;
mod scene;
