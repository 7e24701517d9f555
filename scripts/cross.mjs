/**
 * Platforms that can be built for, and their programs run, on x64 Linux.
 */

/** By the platform's name: what cargo needs, and the packages it comes from. */
export const CROSS_TARGETS = {
  'linux-arm64-gnu': {
    triple: 'aarch64-unknown-linux-gnu',
    linker: 'aarch64-linux-gnu-gcc',
    compilerPackages: ['gcc-aarch64-linux-gnu', 'libc6-dev-arm64-cross'],
    emulator: ['qemu-aarch64', '-L', '/usr/aarch64-linux-gnu', '-cpu', 'max'],
    emulatorPackages: ['qemu-user'],
  },
}

/** The environment in which cargo builds for a target and runs what it has built. */
export function cargoEnvironment({ triple, linker, emulator }) {
  const prefix = `CARGO_TARGET_${triple.toUpperCase().replaceAll('-', '_')}`
  return { [`${prefix}_LINKER`]: linker, [`${prefix}_RUNNER`]: emulator.join(' ') }
}
