//! Parsing of request paths and queries.

/// The parts of a request path.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: Option<String>,
    /// Empty for the discovery document of a group and version.
    pub(crate) plural: String,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
}

impl Target {
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let group = match parts.next()? {
            "api" => String::new(),
            "apis" => parts.next()?.to_string(),
            _ => return None,
        };
        let version = parts.next()?.to_string();
        let rest: Vec<&str> = parts.collect();
        let (namespace, rest) = match rest.as_slice() {
            ["namespaces", namespace, rest @ ..]
                if !rest.is_empty() && !matches!(rest, ["status" | "finalize"]) =>
            {
                (Some(namespace.to_string()), rest)
            }
            rest => (None, rest),
        };
        let (plural, name, subresource) = match rest {
            [] => ("", None, None),
            [plural] => (*plural, None, None),
            [plural, name] => (*plural, Some(name.to_string()), None),
            [plural, name, subresource] => (*plural, Some(name.to_string()), Some(subresource.to_string())),
            _ => return None,
        };
        Some(Self { group, version, namespace, plural: plural.into(), name, subresource })
    }
}

impl Target {
    /// Namespace and name of the pod whose log is the target.
    pub(crate) fn log(&self) -> Option<(&str, &str)> {
        let is_log =
            self.group.is_empty() && self.plural == "pods" && self.subresource.as_deref() == Some("log");
        self.namespace.as_deref().zip(self.name.as_deref()).filter(|_| is_log)
    }
}

/// The decoded parameters of a query string, in their order.
pub(crate) fn query(query: &str) -> Vec<(String, String)> {
    let decoded = |text: &str| percent_decoded(&text.replace('+', " "));
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex: Option<u8> = (byte == b'%')
            .then(|| rest.clone().take(2).map(char::from).collect::<String>())
            .and_then(|digits| u8::from_str_radix(&digits, 16).ok());
        match hex {
            Some(decoded) => {
                bytes.push(decoded);
                rest = {
                    rest.next();
                    rest.next();
                    rest
                };
            }
            None => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
