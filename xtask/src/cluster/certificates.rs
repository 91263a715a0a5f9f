//! The cluster's certificate authority, the certificates it signs, and kubeconfigs that carry them.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

const TOKEN_KEY: &str = "service-accounts.key";

/// Signs for one cluster. Its key is never written; certificates are valid for as long as anybody asks, because the
/// keys go with the cluster.
pub(crate) struct Authority {
    directory: PathBuf,
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, as files and as text.
pub(crate) struct Identity {
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
    certificate: String,
    key: String,
}

impl Authority {
    /// Makes one that keeps its files in `directory`.
    pub fn new(directory: PathBuf) -> Result<Authority> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = distinguished_name("previewd local cluster", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        let authority = Authority { directory, certificate, issuer: Issuer::new(params, key) };
        write_private(&authority.certificate_file(), &authority.certificate)?;
        Ok(authority)
    }

    pub fn certificate_file(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    /// The authority's certificate as objects carry it.
    pub fn bundle(&self) -> String {
        STANDARD.encode(&self.certificate)
    }

    /// Signs for `user` in `group`, as a client and as a server by `names` (addresses among them).
    pub fn issue(&self, file: &str, user: &str, group: Option<&str>, names: &[String]) -> Result<Identity> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = distinguished_name(user, group);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let identity = Identity {
            certificate_file: self.directory.join(format!("{file}.crt")),
            key_file: self.directory.join(format!("{file}.key")),
            certificate: params.signed_by(&key, &self.issuer)?.pem(),
            key: key.serialize_pem(),
        };
        write_private(&identity.certificate_file, &identity.certificate)?;
        write_private(&identity.key_file, &identity.key)?;
        Ok(identity)
    }

    /// A key that signs service accounts' tokens, and the public one that they are checked with: Kubernetes does not
    /// take the one out of the other in this format.
    pub fn token_keys(&self) -> Result<(PathBuf, PathBuf)> {
        let (private, public) = (self.directory.join(TOKEN_KEY), self.directory.join("service-accounts.pub"));
        let key = KeyPair::generate()?;
        write_private(&private, &key.serialize_pem())?;
        write_private(&public, &key.public_key_pem())?;
        Ok((private, public))
    }

    /// The key of [`Authority::token_keys`] that signs.
    pub fn token_key_file(&self) -> PathBuf {
        self.directory.join(TOKEN_KEY)
    }

    /// Issues a client certificate and writes the kubeconfig that uses it.
    pub fn write_kubeconfig(&self, server: &str, file: &str, user: &str, group: Option<&str>) -> Result<PathBuf> {
        let identity = self.issue(file, user, group, &[])?;
        let path = self.directory.join(format!("{file}.kubeconfig"));
        let user = json!({
            "client-certificate-data": STANDARD.encode(&identity.certificate),
            "client-key-data": STANDARD.encode(&identity.key),
        });
        let cluster = json!({ "server": server, "certificate-authority-data": self.bundle() });
        write_private(&path, &kubeconfig(cluster, user))?;
        Ok(path)
    }
}

/// A kubeconfig of one cluster and one user. JSON is YAML too.
pub(super) fn kubeconfig(cluster: serde_json::Value, user: serde_json::Value) -> String {
    let name = "previewd-local";
    let text = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{ "name": name, "cluster": cluster }],
        "users": [{ "name": name, "user": user }],
        "contexts": [{ "name": name, "context": { "cluster": name, "user": name } }],
    });
    format!("{text:#}\n")
}

/// Writes a file that only its owner can read, from its first byte on.
pub(super) fn write_private(path: &Path, text: &str) -> Result<()> {
    let open = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path);
    open.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn distinguished_name(user: &str, group: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, user);
    if let Some(group) = group {
        name.push(DnType::OrganizationName, group);
    }
    name
}
