//go:build !amd64 || noasm

package tcp

import "hash/crc32"

// update adds p to a CRC32C.
func update(sum uint32, p []byte, _ *remainder) uint32 { return crc32.Update(sum, castagnoli, p) }
