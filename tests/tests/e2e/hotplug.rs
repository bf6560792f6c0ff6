//! Interfaces that come and go.
