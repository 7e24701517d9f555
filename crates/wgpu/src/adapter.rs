//! Which of the machine's adapters to use.

use realm_ir::{Error, Result};

use crate::NAME;

/// An adapter as the system describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterDescription {
    /// Such as `NVIDIA GeForce RTX 4090`; in browsers often empty.
    pub name: String,
    /// The API it is reached through, such as `vulkan`.
    pub api: String,
    /// Driver and its version, where known.
    pub driver: String,
    /// Whether it computes on the CPU. Such adapters are used only when asked for.
    pub software: bool,
}

impl AdapterDescription {
    pub(crate) fn of(adapter: &wgpu::Adapter) -> Self {
        let info = adapter.get_info();
        AdapterDescription {
            name: info.name,
            api: info.backend.to_string(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            software: info.device_type == wgpu::DeviceType::Cpu,
        }
    }
}

pub(crate) async fn enumerate() -> Vec<wgpu::Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    instance.enumerate_adapters(wgpu::Backends::all()).await
}

/// The adapter whose name contains `wanted`, whatever its kind; without a wish the
/// best one that is not software.
///
/// # Errors
/// `Unavailable` naming the adapters that were found.
pub(crate) async fn choose(wanted: Option<&str>) -> Result<wgpu::Adapter> {
    let mut adapters = enumerate().await;
    let found: Vec<_> = adapters.iter().map(AdapterDescription::of).collect();
    let best = match wanted {
        Some(wanted) => {
            let wanted = wanted.to_lowercase();
            found.iter().position(|adapter| adapter.name.to_lowercase().contains(&wanted))
        }
        None => (0..adapters.len())
            .filter(|index| !found[*index].software)
            .min_by_key(|index| rank(adapters[*index].get_info().device_type)),
    };
    match best {
        Some(index) => Ok(adapters.swap_remove(index)),
        None => Err(Error::Unavailable { backend: NAME, reason: refusal(wanted, &found) }),
    }
}

/// Order of preference.
fn rank(kind: wgpu::DeviceType) -> u32 {
    match kind {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    }
}

fn refusal(wanted: Option<&str>, found: &[AdapterDescription]) -> String {
    let list: Vec<_> =
        found.iter().map(|adapter| format!("{} ({})", adapter.name, adapter.api)).collect();
    match (wanted, list.is_empty()) {
        (_, true) => "no graphics adapter found; is a driver installed?".to_owned(),
        (Some(wanted), false) => {
            format!("no adapter is called {wanted:?}; found: {}", list.join(", "))
        }
        (None, false) => format!(
            "only software adapters found, which are used when asked for by name: {}",
            list.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_was_found_and_what_to_do() {
        let lavapipe = AdapterDescription {
            name: "llvmpipe".into(),
            api: "vulkan".into(),
            driver: String::new(),
            software: true,
        };
        assert!(refusal(None, &[]).contains("driver"));
        let text = refusal(Some("RTX"), std::slice::from_ref(&lavapipe));
        assert!(text.contains("\"RTX\"") && text.contains("llvmpipe (vulkan)"), "{text}");
        assert!(refusal(None, &[lavapipe]).contains("asked for by name: llvmpipe"));
    }
}
