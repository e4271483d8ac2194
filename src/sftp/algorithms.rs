//! What is agreed on with clients: algorithms, sizes, timeouts of the connection. Source: SFTP, "Listener and crypto".

use std::borrow::Cow;
use std::time::Duration;

use russh::keys::PrivateKey;
use russh::server::Config;
use russh::{MethodKind, MethodSet, Preferred, SshId, cipher, kex, mac};

use super::limits::{KEEPALIVE, KEEPALIVE_MAX, LOGIN_ATTEMPTS, REJECTION, STALLED};

/// The first line of the server.
const SERVER: &str = "SSH-2.0-alula";
/// Most bytes of a packet. More is not a packet of SSH for `russh`.
const PACKET: u32 = 65_535;
/// Bytes that a client may send before they are acknowledged.
const WINDOW: u32 = 8 << 20;
/// Messages from a session to its connection that wait.
const QUEUE: usize = 32;

/// Those of Wings, and newer ones of OpenSSH.
const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::ECDH_SHA2_NISTP256,
    kex::ECDH_SHA2_NISTP384,
    kex::ECDH_SHA2_NISTP521,
    kex::DH_G14_SHA256,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];
/// The client chooses; those with the lowest costs come first.
const CIPHERS: &[cipher::Name] = &[
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_128_CTR,
    cipher::AES_192_CTR,
    cipher::AES_256_CTR,
];
const MACS: &[mac::Name] = &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM, mac::HMAC_SHA256, mac::HMAC_SHA512];

/// The methods of a login.
pub fn methods() -> MethodSet {
    MethodSet::from(&[MethodKind::PublicKey, MethodKind::Password][..])
}

/// The configuration of each connection.
pub fn config(host_key: PrivateKey) -> Config {
    Config {
        server_id: SshId::Standard(Cow::Borrowed(SERVER)),
        methods: methods(),
        auth_rejection_time: REJECTION,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![host_key],
        window_size: WINDOW,
        maximum_packet_size: PACKET,
        event_buffer_size: QUEUE,
        preferred: Preferred {
            kex: Cow::Borrowed(KEX),
            cipher: Cow::Borrowed(CIPHERS),
            mac: Cow::Borrowed(MACS),
            ..Preferred::DEFAULT
        },
        // The first one only asks for the methods.
        max_auth_attempts: LOGIN_ATTEMPTS + 1,
        inactivity_timeout: Some(STALLED),
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: KEEPALIVE_MAX as usize,
        ..Config::default()
    }
}
