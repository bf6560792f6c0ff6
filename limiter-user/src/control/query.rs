//! Query strings, strictly: every parameter known, none twice.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

use form_urlencoded::Serializer;
use limiter_common::abi::MAX_TENANT_NAME;

use super::node::NodeError;
use crate::report::explain::{ExplainQuery, Subject};

/// The parameters of a request that were not taken yet.
#[derive(Debug)]
pub struct Query(BTreeMap<String, String>);

impl Query {
    /// Reads what follows the question mark.
    pub fn parse(text: Option<&str>) -> Result<Self, NodeError> {
        let mut parameters = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(text.unwrap_or_default().as_bytes()) {
            let again = parameters.insert(name.clone().into_owned(), value.into_owned());
            if again.is_some() {
                return Err(invalid(format!("{name} is given twice")));
            }
        }
        Ok(Self(parameters))
    }

    /// Takes a parameter as it is.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// Takes a parameter that is a number, an address, `true` or `false`…
    pub fn value<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<Option<T>, NodeError> {
        let Some(text) = self.0.remove(name) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(invalid(format!("{name}: {text:?}: {error}"))),
        }
    }

    /// Takes the name of a tenant.
    pub fn tenant(&mut self) -> Result<Option<String>, NodeError> {
        let tenant = self.text("tenant");
        if tenant.as_ref().is_some_and(|t| t.len() > MAX_TENANT_NAME) {
            let most = MAX_TENANT_NAME;
            return Err(invalid(format!("tenant: longer than {most} bytes")));
        }
        Ok(tenant)
    }

    /// Nothing else was to be given.
    pub fn finish(self) -> Result<(), NodeError> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(invalid(format!("there is no parameter {name:?} here"))),
        }
    }
}

/// Reads the question of an `explain`.
pub fn explain_from(query: &mut Query) -> Result<ExplainQuery, NodeError> {
    let subjects = [
        query.value("uid")?.map(Subject::Uid),
        query.value("pid")?.map(Subject::Pid),
        query.text("cgroup").map(Subject::Cgroup),
        query.text("interface").map(Subject::Interface),
        query.value("from")?.map(Subject::From),
    ];
    let mut subjects = subjects.into_iter().flatten();
    let (Some(subject), None) = (subjects.next(), subjects.next()) else {
        return Err(invalid(
            "exactly one of uid, pid, cgroup, interface, from must be given",
        ));
    };
    let to = query
        .value("to")?
        .ok_or_else(|| invalid("to must be given: an address and a port"))?;
    Ok(ExplainQuery { subject, to })
}

/// Writes the question of an `explain`.
pub fn explain_to(query: &ExplainQuery) -> String {
    let mut out = Serializer::new(String::new());
    match &query.subject {
        Subject::Uid(uid) => out.append_pair("uid", &uid.to_string()),
        Subject::Pid(pid) => out.append_pair("pid", &pid.to_string()),
        Subject::Cgroup(path) => out.append_pair("cgroup", path),
        Subject::Interface(name) => out.append_pair("interface", name),
        Subject::From(address) => out.append_pair("from", &address.to_string()),
    };
    out.append_pair("to", &query.to.to_string());
    out.finish()
}

/// Writes the parameters that are given.
pub fn write(parameters: &[(&str, Option<&str>)]) -> String {
    let mut out = Serializer::new(String::new());
    for (name, value) in parameters {
        if let Some(value) = value {
            out.append_pair(name, value);
        }
    }
    out.finish()
}

/// A request that makes no sense.
pub fn invalid(what: impl Into<String>) -> NodeError {
    NodeError::Invalid { what: what.into() }
}
