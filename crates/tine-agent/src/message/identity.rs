//! Who a machine is: what every clone gets of its own before its programs run.

use serde::{Deserialize, Serialize};
use std::{fmt, net::Ipv4Addr, str::FromStr};
use tine_model::BoxName;

/// Everything that no two machines share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Nanoseconds since the Unix epoch.
    pub wall_clock_ns: u64,
    /// Stirred into the kernel's random numbers.
    pub entropy: Entropy,
    /// The content of `/etc/machine-id`.
    pub machine_id: MachineId,
    /// The name, also the content of `/etc/hostname`.
    pub hostname: BoxName,
    /// The content of `/etc/hosts`.
    pub hosts: String,
    /// The content of `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// How `eth0` is set up; down when none.
    pub network: Option<NetworkIdentity>,
}

/// How the machine's network device is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkIdentity {
    /// The hardware address.
    pub mac: MacAddress,
    /// The address.
    pub address: Ipv4Addr,
    /// How many leading bits name the network, at most 32.
    pub prefix: u8,
    /// Where everything else goes.
    pub gateway: Ipv4Addr,
}

/// Random bytes, 32 to 512 of them; text form hexadecimal.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Entropy(Vec<u8>);

impl Entropy {
    /// Takes 32 to 512 bytes.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(bytes: Vec<u8>) -> Result<Self, BadIdentity> {
        if (32..=512).contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(BadIdentity("entropy")) }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Random bytes that were meant for a kernel are nobody else's business.
impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entropy({} bytes)", self.0.len())
    }
}

/// A machine-id(5): 32 lower-case hexadecimal digits, not all 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MachineId(String);

impl MachineId {
    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A hardware address for one device; text form `52:54:00:12:34:56`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// Takes the address of one device, not that of a group or of none.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(bytes: [u8; 6]) -> Result<Self, BadIdentity> {
        if bytes[0] & 1 == 0 && bytes != [0; 6] {
            Ok(Self(bytes))
        } else {
            Err(BadIdentity("hardware address"))
        }
    }

    /// The six bytes.
    #[must_use]
    pub fn octets(self) -> [u8; 6] {
        self.0
    }
}

/// A part of an identity that is outside its grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a usable {0}")]
pub struct BadIdentity(&'static str);

impl TryFrom<String> for Entropy {
    type Error = BadIdentity;
    fn try_from(text: String) -> Result<Self, BadIdentity> {
        let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        });
        pairs.collect::<Option<Vec<u8>>>().ok_or(BadIdentity("entropy")).and_then(Self::new)
    }
}

impl From<Entropy> for String {
    fn from(entropy: Entropy) -> Self {
        entropy.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl FromStr for MachineId {
    type Err = BadIdentity;
    fn from_str(text: &str) -> Result<Self, BadIdentity> {
        let digits = text.len() == 32 && text.bytes().all(|b| digit(b).is_some());
        let some = text.bytes().any(|b| b != b'0');
        (digits && some).then(|| Self(text.to_owned())).ok_or(BadIdentity("machine id"))
    }
}

impl TryFrom<String> for MachineId {
    type Error = BadIdentity;
    fn try_from(text: String) -> Result<Self, BadIdentity> {
        text.parse()
    }
}

impl From<MachineId> for String {
    fn from(id: MachineId) -> Self {
        id.0
    }
}

impl FromStr for MacAddress {
    type Err = BadIdentity;
    fn from_str(text: &str) -> Result<Self, BadIdentity> {
        let bad = BadIdentity("hardware address");
        let byte = |part: &str| match part.as_bytes() {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        };
        let bytes: Vec<u8> = text.split(':').map(byte).collect::<Option<_>>().ok_or(bad)?;
        Self::new(bytes.try_into().map_err(|_| bad)?)
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl TryFrom<String> for MacAddress {
    type Error = BadIdentity;
    fn try_from(text: String) -> Result<Self, BadIdentity> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> Self {
        mac.to_string()
    }
}

/// The value of a lower-case hexadecimal digit.
fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_identity_is_refused() {
        for bad in ["", "0", "52:54:00:12:34", "53:54:00:12:34:56", "00:00:00:00:00:00", "5:54:00:12:34:566"]
        {
            assert!(bad.parse::<MacAddress>().is_err(), "{bad}");
        }
        let mac: MacAddress = "52:54:00:12:34:ff".parse().unwrap();
        assert_eq!((mac.to_string().as_str(), mac.octets()[5]), ("52:54:00:12:34:ff", 255));
        for bad in ["", "0123", &"0".repeat(32), &"A".repeat(32), &"a".repeat(33), &"é".repeat(16)] {
            assert!(bad.parse::<MachineId>().is_err(), "{bad}");
        }
        assert!("a".repeat(32).parse::<MachineId>().is_ok());
        let entropy = Entropy::new((0..=255).collect()).unwrap();
        assert_eq!(Entropy::try_from(String::from(entropy.clone())).unwrap(), entropy);
        for bad in ["ab".repeat(31), "ab".repeat(513), "a".repeat(65), "zz".repeat(32), "é".repeat(64)] {
            assert!(Entropy::try_from(bad).is_err());
        }
        assert_eq!(format!("{entropy:?}"), "Entropy(256 bytes)");
    }
}
