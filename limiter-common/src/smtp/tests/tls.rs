//! Sessions under TLS: one mail is one, ten thousand are not three hundred.
