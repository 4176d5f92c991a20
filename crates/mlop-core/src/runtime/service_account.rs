//! The ServiceAccount of the operator's pod, as the token in the pod describes it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::Value;
use std::fs;

/// Where the kubelet puts the token.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// A reference that makes an object of `namespace` go with the ServiceAccount; none outside of a pod, or in another namespace.
pub(crate) fn owner(namespace: &str) -> Option<OwnerReference> {
    described(&fs::read_to_string(TOKEN).ok()?, namespace)
}

/// The ServiceAccount in the claims of a token (RFC 7519). Nobody relies on them for access, so no signature is checked.
fn described(token: &str, namespace: &str) -> Option<OwnerReference> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let text = |pointer: &str| Some(claims.pointer(pointer)?.as_str()?.to_owned());
    // An owner in another namespace counts as gone.
    text("/kubernetes.io/namespace").filter(|own| own == namespace)?;
    Some(OwnerReference {
        api_version: "v1".to_owned(),
        kind: "ServiceAccount".to_owned(),
        name: text("/kubernetes.io/serviceaccount/name")?,
        uid: text("/kubernetes.io/serviceaccount/uid")?,
        ..OwnerReference::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn account_is_that_of_the_token() {
        let token = |claims: Value| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let account = json!({"kubernetes.io": {"namespace": "mlop-system", "pod": {"name": "p", "uid": "1"},
            "serviceaccount": {"name": "mlop-training", "uid": "2"}}});
        let rows = [
            ("of a pod", token(account.clone()), "mlop-system", Some(("mlop-training", "2"))),
            ("of another namespace", token(account), "leases", None),
            ("of a person", token(json!({"sub": "jane"})), "mlop-system", None),
            ("no token", "secret".to_owned(), "mlop-system", None),
            ("no claims", "a.!.b".to_owned(), "mlop-system", None),
            ("empty", String::new(), "mlop-system", None),
        ];
        for (situation, token, namespace, want) in rows {
            let found = described(&token, namespace).map(|owner| (owner.name, owner.uid));
            assert_eq!(found, want.map(|(name, uid)| (name.to_owned(), uid.to_owned())), "{situation}");
        }
    }
}
