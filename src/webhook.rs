//! GitHub's webhook: who signed a delivery, and what it changes.

mod comment;
mod handler;
mod payload;
mod signature;

pub use handler::{Receiver, receive};
pub use payload::{BadPayload, Parsed, parse};
pub use signature::{BadSignature, verify_signature};
