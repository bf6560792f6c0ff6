//! What others do to the node's programs.
