//! Real interfaces.
