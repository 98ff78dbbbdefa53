//go:build noasm || !(amd64 || arm64)

package vec

func eachProduct(f func(kernels string)) { f("portable") }
