/** The second view: how far the model has come, how fast, and how long it will take. */

import type { LoadProgress } from '@realm-ai/realm'
import { announce, byId } from './dom.js'
import { formatBytes, formatSeconds } from './format.js'
import { Speed } from './speed.js'

/** Shows one load from its start; returns what takes its progress. */
export function showLoading(name: string): (progress: LoadProgress) => void {
  const bar = byId<HTMLProgressElement>('loading-progress')
  const speed = new Speed()
  let stage = ''
  byId('loading-title').textContent = name
  byId('loading-facts').textContent = ''
  bar.removeAttribute('value')
  showStage('Opening')

  return (progress) => {
    showStage(progress.stage === 'download' ? 'Downloading' : 'Preparing')
    if (progress.fraction > 0) bar.value = progress.fraction
    else bar.removeAttribute('value')
    if (progress.receivedBytes !== undefined) speed.add(progress.receivedBytes)
    byId('loading-facts').textContent =
      progress.stage === 'download' ? facts(progress, speed) : percent(progress.fraction)
  }

  function showStage(next: string): void {
    if (next === stage) return
    stage = next
    byId('loading-stage').textContent = next
    announce(`${next} ${name}`)
  }
}

function facts(progress: LoadProgress, speed: Speed): string {
  const { receivedBytes = 0, totalBytes } = progress
  const { bytesPerSecond } = speed
  const amount = formatBytes(receivedBytes)
  const parts = [totalBytes === undefined ? amount : `${amount} of ${formatBytes(totalBytes)}`]
  if (bytesPerSecond !== undefined) {
    parts.push(`${formatBytes(bytesPerSecond)}/s`)
    if (totalBytes !== undefined && bytesPerSecond > 0 && receivedBytes < totalBytes)
      parts.push(`${formatSeconds((totalBytes - receivedBytes) / bytesPerSecond)} left`)
  }
  return parts.join(' · ')
}

function percent(fraction: number): string {
  return fraction > 0 ? `${Math.round(fraction * 100)} %` : ''
}
