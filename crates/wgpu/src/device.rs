//! Which of the machine's devices to use. What WebGPU calls an adapter is a device here: an
//! adapter is a LoRA.

use std::sync::OnceLock;

use realm_ir::{Error, Result};

use crate::NAME;

/// A device as the system describes it: a graphics card, part of a processor, or software.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeviceDescription {
    /// Such as `NVIDIA GeForce RTX 4090`; in browsers often empty.
    pub name: String,
    /// The API it is reached through, such as `vulkan`.
    pub api: String,
    /// Driver and its version, where known.
    pub driver: String,
    /// Whether it computes on the CPU. Such devices are used only when asked for.
    pub software: bool,
    /// Whether it has memory of its own, beside the machine's.
    pub discrete: bool,
}

impl DeviceDescription {
    pub(crate) fn of(card: &wgpu::Adapter) -> Self {
        let info = card.get_info();
        DeviceDescription {
            name: info.name,
            api: info.backend.to_string(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            software: info.device_type == wgpu::DeviceType::Cpu,
            discrete: info.device_type == wgpu::DeviceType::DiscreteGpu,
        }
    }
}

/// Share of the memory that the system grants this process, in percent, above which a
/// device refuses buffers, so that it is told of before the driver runs out of it.
const MEMORY_BUDGET_PERCENT: u8 = 95;

/// The one instance of this process: making one asks every driver of the machine.
fn instance() -> &'static wgpu::Instance {
    static INSTANCE: OnceLock<wgpu::Instance> = OnceLock::new();
    INSTANCE.get_or_init(|| {
        wgpu::Instance::new(wgpu::InstanceDescriptor {
            memory_budget_thresholds: wgpu::MemoryBudgetThresholds {
                for_resource_creation: Some(MEMORY_BUDGET_PERCENT),
                for_device_loss: None,
            },
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        })
    })
}

/// Every device there is.
pub(crate) async fn enumerate() -> Vec<wgpu::Adapter> {
    instance().enumerate_adapters(wgpu::Backends::all()).await
}

/// The device of that number or whose name contains `wanted`, whatever its kind;
/// without a wish the best one that is not software.
///
/// # Errors
/// `Unavailable` naming the devices that were found.
pub(crate) async fn choose(wanted: Option<&str>) -> Result<wgpu::Adapter> {
    let mut cards = enumerate().await;
    let found: Vec<_> = cards.iter().map(DeviceDescription::of).collect();
    let best = match wanted {
        Some(wanted) => position(wanted, &found),
        None => (0..cards.len())
            .filter(|index| !found[*index].software)
            .min_by_key(|index| rank(cards[*index].get_info().device_type)),
    };
    match best {
        Some(index) => Ok(cards.swap_remove(index)),
        None => Err(Error::Unavailable { backend: NAME, reason: refusal(wanted, &found) }),
    }
}

/// A number counts from 0; anything else is part of a name, in any case.
fn position(wanted: &str, found: &[DeviceDescription]) -> Option<usize> {
    if let Ok(number) = wanted.parse::<usize>() {
        return (number < found.len()).then_some(number);
    }
    let wanted = wanted.to_lowercase();
    found.iter().position(|device| device.name.to_lowercase().contains(&wanted))
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

fn refusal(wanted: Option<&str>, found: &[DeviceDescription]) -> String {
    let list: Vec<_> =
        found.iter().map(|device| format!("{} ({})", device.name, device.api)).collect();
    match (wanted, list.is_empty()) {
        (_, true) => "no graphics card found; is a driver installed?".to_owned(),
        (Some(wanted), false) => {
            format!("no device is called {wanted:?}; found: {}", list.join(", "))
        }
        (None, false) => format!(
            "only devices in software found, which are used when asked for by name: {}",
            list.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str) -> DeviceDescription {
        DeviceDescription {
            name: name.into(),
            api: "vulkan".into(),
            driver: String::new(),
            software: true,
            discrete: false,
        }
    }

    #[test]
    fn a_refusal_says_what_was_found_and_what_to_do() {
        let lavapipe = device("llvmpipe");
        assert!(refusal(None, &[]).contains("driver"));
        let text = refusal(Some("RTX"), std::slice::from_ref(&lavapipe));
        assert!(text.contains("\"RTX\"") && text.contains("llvmpipe (vulkan)"), "{text}");
        assert!(refusal(None, &[lavapipe]).contains("asked for by name: llvmpipe"));
    }

    #[test]
    fn a_device_is_asked_for_by_number_or_by_part_of_its_name() {
        let found = [device("llvmpipe"), device("NVIDIA RTX 4090")];
        assert_eq!(position("1", &found), Some(1));
        assert_eq!(position("2", &found), None);
        assert_eq!(position("rtx", &found), Some(1));
        assert_eq!(position("radeon", &found), None);
    }
}
