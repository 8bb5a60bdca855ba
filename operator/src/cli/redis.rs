//! How Argo CD's Redis is reached, in the words that Argo CD uses for it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::sources::revocations::{self, RedisTls, Sentinel};

#[derive(Debug, Args)]
pub(super) struct RedisOptions {
    /// Address of Argo CD's Redis, where revoked tokens are kept [default: redis.server of argocd-cmd-params-cm, else
    /// argocd-redis:6379]
    #[arg(long, value_name = "HOST:PORT", env = "REDIS_SERVER")]
    redis: Option<String>,
    /// Number of the Redis database
    #[arg(long, value_name = "N", env = "REDISDB", default_value_t = 0)]
    redisdb: i64,
    /// Address of a Redis Sentinel; may be given more than once
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "redis")]
    sentinel: Vec<String>,
    /// Name of the master that the Sentinels watch
    #[arg(long, value_name = "NAME", default_value = "master")]
    sentinelmaster: String,
    /// Speak TLS with Redis
    #[arg(long, env = "REDIS_USE_TLS")]
    redis_use_tls: bool,
    /// PEM file of certificates to trust for Redis [default: the system's]
    #[arg(long, value_name = "FILE", env = "REDIS_CA_CERTIFICATE")]
    redis_ca_certificate: Option<PathBuf>,
    /// PEM file of the certificate that Redis is shown
    #[arg(long, value_name = "FILE", env = "REDIS_CLIENT_CERTIFICATE", requires = "redis_client_key")]
    redis_client_certificate: Option<PathBuf>,
    /// PEM file of its key
    #[arg(long, value_name = "FILE", env = "REDIS_CLIENT_KEY", requires = "redis_client_certificate")]
    redis_client_key: Option<PathBuf>,
    /// Do not verify the certificate of Redis
    #[arg(long, env = "REDIS_INSECURE_SKIP_TLS_VERIFY")]
    redis_insecure_skip_tls_verify: bool,
}

impl RedisOptions {
    /// With what is read from files and the environment. Passwords are no flags: a flag is seen by everybody.
    pub(super) fn read(&self) -> Result<revocations::RedisOptions> {
        let sentinel = (!self.sentinel.is_empty()).then(|| -> Result<Sentinel> {
            Ok(Sentinel {
                master: self.sentinelmaster.clone(),
                username: credential("REDIS_SENTINEL_USERNAME", "sentinel_username")?,
                password: credential("REDIS_SENTINEL_PASSWORD", "sentinel_auth")?,
            })
        });
        Ok(revocations::RedisOptions {
            addresses: self.redis.iter().chain(&self.sentinel).cloned().collect(),
            database: self.redisdb,
            username: credential("REDIS_USERNAME", "auth_username")?,
            password: credential("REDIS_PASSWORD", "auth")?,
            tls: self.redis_use_tls.then(|| self.tls()).transpose()?,
            sentinel: sentinel.transpose()?,
        })
    }

    fn tls(&self) -> Result<RedisTls> {
        let client = match (&self.redis_client_certificate, &self.redis_client_key) {
            (Some(certificate), Some(key)) => Some((file(certificate)?, file(key)?)),
            (None, None) => None,
            _ => bail!("--redis-client-certificate and --redis-client-key belong together"),
        };
        Ok(RedisTls {
            ca: self.redis_ca_certificate.as_deref().map(file).transpose()?,
            client,
            insecure_skip_verify: self.redis_insecure_skip_tls_verify,
        })
    }
}

/// An environment variable, else a file of the folder that `REDIS_CREDS_DIR_PATH` names.
fn credential(variable: &str, name: &str) -> Result<Option<String>> {
    if let Some(value) = std::env::var(variable).ok().filter(|value| !value.is_empty()) {
        return Ok(Some(value));
    }
    let Some(folder) = std::env::var_os("REDIS_CREDS_DIR_PATH") else { return Ok(None) };
    let path = Path::new(&folder).join(name);
    if !path.exists() {
        return Ok(None);
    }
    let text = String::from_utf8(file(&path)?).with_context(|| format!("{} is not text", path.display()))?;
    Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
}

fn file(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("reading {}", path.display()))
}
