//! Clients that want to be read at another place than the server reads.
