//! From YAML files to what the kernel needs: read → check → compile. Nothing here touches the
//! kernel.

pub mod compile;
pub mod fault;
pub mod image;
pub mod model;
