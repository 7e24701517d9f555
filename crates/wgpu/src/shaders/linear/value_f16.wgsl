alias value = f16;
const NARROW: bool = true;
// What f16 cannot hold becomes its largest value, not infinity.
fn narrow(values: vec4<f32>) -> vec4<value> {
    return vec4<value>(clamp(values, vec4(-65504.0), vec4(65504.0)));
}
