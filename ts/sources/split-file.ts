/**
 * Files that are split into parts: `name-00001-of-00003.gguf` and its neighbours.
 */

/** Number and count of a part. */
const PART = /-(\d{5})-of-(\d{5})(\.gguf)$/i

/** Most parts that are believed: more than any model has, few enough to list. */
const MAX_PARTS = 1000

/** Whether a file is a model, or the first part of one, going by its name. */
export function isModelFile(path: string): boolean {
  return /\.gguf$/i.test(path) && (partOf(path)?.number ?? 1) === 1
}

/** Which part of how many a file is, going by its name; undefined for a file that is whole. */
export function partOf(path: string): { number: number; count: number } | undefined {
  const [, number, count] = PART.exec(path) ?? []
  return number === undefined ? undefined : { number: Number(number), count: Number(count) }
}

/** Paths of all parts, when the first one is named; otherwise the path alone. */
export function partPaths(path: string): string[] {
  const part = partOf(path)
  if (part?.number !== 1 || part.count > MAX_PARTS) return [path]
  return Array.from({ length: part.count }, (_, i) =>
    path.replace(PART, `-${String(i + 1).padStart(5, '0')}-of-$2$3`),
  )
}

/** Addresses of all parts, when that of the first one is given; otherwise the address alone. */
export function partUrls(first: URL): URL[] {
  return partPaths(first.pathname).map((path) => {
    const url = new URL(first)
    url.pathname = path
    return url
  })
}
