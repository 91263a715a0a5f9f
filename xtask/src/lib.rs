//! The developer's helper as a library: real parts (`cluster`) and loopback stand-ins (`github`, `issuer`) that the demo, the
//! tests and the benchmarks share. Nothing here is part of the product.

pub mod agent;
pub mod browser;
pub mod cargo;
pub mod cluster;
pub mod github;
pub mod issuer;
pub mod postgres;
pub mod previewd;
pub mod requirements;
mod shared_clusters;
pub mod stand;
pub mod testing;
pub mod web;
