alias value = f32;
const NARROW: bool = false;
fn narrow(values: vec4<f32>) -> vec4<value> { return values; }
