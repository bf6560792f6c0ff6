//! Interfaces made up, and real ones in network namespaces of their own.

mod bytes;
mod real;
mod resolved;
mod watched;
mod ways;
mod world;

use self::world::World;
use super::*;
