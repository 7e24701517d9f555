//! Activation functions as constants of `shaders/activation.wgsl`.

use realm_ir::Activation;

use crate::kernel::Constants;

/// The constants that make `activate` and `factor_of` those of `activation`.
pub(crate) fn constants(activation: Activation) -> Constants {
    // A parameter that is not used may not be 0: the shader divides by it.
    let (index, parameters) = match activation {
        Activation::Identity => (0, [1.0; 4]),
        Activation::Silu => (1, [1.0; 4]),
        Activation::GeluTanh => (2, [1.0; 4]),
        Activation::GeluErf => (3, [1.0; 4]),
        Activation::Relu => (4, [1.0; 4]),
        Activation::ReluSquared => (5, [1.0; 4]),
        Activation::Sigmoid => (6, [1.0; 4]),
        Activation::ClampedSwiglu => (7, [1.0; 4]),
        Activation::Softcap(cap) => (8, [cap; 4]),
        Activation::Clamp(bound) => (9, [bound; 4]),
        Activation::Xielu { positive, negative, beta, epsilon } => {
            (10, [positive, negative, beta, epsilon])
        }
    };
    let names = ["parameter_0", "parameter_1", "parameter_2", "parameter_3"];
    let parameters = names.into_iter().zip(parameters.map(f64::from));
    std::iter::once(("activation", f64::from(index))).chain(parameters).collect()
}
