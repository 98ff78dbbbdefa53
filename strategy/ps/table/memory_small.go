//go:build !linux

package table

const largePage = diskPage

func allocLarge(n int) ([]float32, error) { return alloc[float32](n) }
