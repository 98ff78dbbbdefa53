package vec

import "fmt"

// GatherImages writes rows of bytes as numbers: x[k*dim+j] = pix[ids[k]*dim+j] / 255 or, when deviation is not 0,
// (pix[ids[k]*dim+j]/255 - mean) / deviation, each operation rounded to float32. While it writes one row it fetches those
// that come next, whose place in memory nothing else could guess.
func GatherImages(x []float32, pix []uint8, dim int, ids []int, mean, deviation float32) {
	sized("GatherImages", "x", len(x), len(ids)*dim)
	rows := len(pix) / max(dim, 1)
	for _, i := range ids {
		if i < 0 || i >= rows {
			panic(fmt.Sprintf("vec.GatherImages: row %d of %d", i, rows))
		}
	}
	for k, i := range ids {
		next := ids[min(k+ahead, len(ids)-1)]
		images(x[k*dim:(k+1)*dim], pix[i*dim:(i+1)*dim], pix[next*dim:(next+1)*dim], mean, deviation)
	}
}

// ahead is by how many rows the fetch is ahead of the use.
const ahead = 3

func imagesTwin(x []float32, pix []uint8, mean, deviation float32) {
	for j, p := range pix {
		v := float32(p) / 255
		if deviation != 0 {
			v = float32(v-mean) / deviation
		}
		x[j] = v
	}
}
