//! Facts about the machine, for reports.

use std::fs;

/// The operating system, by its own name if it has one, and the architecture: `Ubuntu 24.04.2 LTS (linux x86_64)`.
pub fn os_version() -> String {
    use std::env::consts::{ARCH, OS};
    match fs::read_to_string("/etc/os-release")
        .ok()
        .as_deref()
        .and_then(pretty_name)
    {
        Some(name) => format!("{name} ({OS} {ARCH})"),
        None => format!("{OS} ({ARCH})"),
    }
}

/// The processor's own name, if the system provides it; otherwise its architecture.
pub fn processor() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    match name {
        Some((_, name)) => name.trim().escape_debug().to_string(),
        None => std::env::consts::ARCH.into(),
    }
}

/// Resident memory of this process in MB (of 2²⁰ bytes): the peak on Linux, the current value elsewhere. `None` if
/// the system does not provide it.
pub fn rss_mb() -> Option<f64> {
    #[cfg(target_os = "linux")]
    return peak_rss_mb();
    #[cfg(not(target_os = "linux"))]
    Some(memory_stats::memory_stats()?.physical_mem as f64 / MB)
}

/// Peak RSS of this process in MB (of 2²⁰ bytes). `None` except on Linux.
pub fn peak_rss_mb() -> Option<f64> {
    #[cfg(target_os = "linux")]
    return Some(peak_rss_bytes(&fs::read_to_string("/proc/self/status").ok()?)? as f64 / MB);
    #[cfg(not(target_os = "linux"))]
    None
}

const MB: f64 = (1 << 20) as f64;

/// `VmHWM`, the high-water mark of resident memory, of a `/proc/…/status` (man 5 proc).
#[cfg(target_os = "linux")]
fn peak_rss_bytes(status: &str) -> Option<u64> {
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// `PRETTY_NAME` of an `os-release` file (man 5 os-release).
fn pretty_name(os_release: &str) -> Option<String> {
    let value = os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    let name = value.trim().trim_matches(['"', '\'']);
    (!name.is_empty()).then(|| name.escape_debug().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_has_a_name_with_the_architecture() {
        let os = os_version();
        assert!(os.contains(std::env::consts::ARCH), "{os}");
        assert_eq!(
            pretty_name("NAME=x\nPRETTY_NAME=\"Some Linux 1.2\"\n").as_deref(),
            Some("Some Linux 1.2")
        );
        assert_eq!(pretty_name("PRETTY_NAME=''\n"), None);
        assert_eq!(pretty_name("NAME=x\n"), None);
        assert!(!processor().is_empty());
    }

    #[test]
    fn resident_memory_grows_with_what_is_touched() {
        let before = rss_mb().unwrap();
        let block = vec![1_u8; 64 << 20];
        let after = rss_mb().unwrap();
        assert!(
            after >= 64.0 && after >= before,
            "{before} MB, then {after} MB with {} bytes more",
            std::hint::black_box(&block).len()
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_is_read_in_bytes() {
        assert_eq!(
            peak_rss_bytes("VmPeak:\t9 kB\nVmHWM:\t   2048 kB\n"),
            Some(2 << 20)
        );
        assert_eq!(peak_rss_bytes("VmHWM:\t many kB\n"), None);
        assert_eq!(peak_rss_bytes("Name:\tn2n\n"), None);
    }
}
