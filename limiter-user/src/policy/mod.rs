//! From YAML files to what the kernel needs: read → check → compile. Nothing here touches the
//! kernel.

pub mod model;
