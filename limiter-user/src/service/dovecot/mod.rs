//! Dovecot.
