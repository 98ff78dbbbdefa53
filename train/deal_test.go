package train

import (
	"bytes"
	"testing"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
)

// Whatever a file says, a tensor is refused or dealt out: of the shape that its bytes have, and, where rows follow their
// owners, each byte to one rank, in order.
func FuzzDeal(f *testing.F) {
	f.Add(uint8(0), uint8(1), uint8(3), uint8(2), uint8(3), uint8(2), uint8(6))
	f.Add(uint8(1), uint8(2), uint8(6), uint8(1), uint8(3), uint8(8), uint8(6))
	f.Add(uint8(4), uint8(1), uint8(1), uint8(0), uint8(1), uint8(1), uint8(1))
	types := []ckpt.DType{ckpt.F32, ckpt.F64, ckpt.I64, ckpt.U64, ckpt.U8}
	shards := []ckpt.Shard{ckpt.Replicated, ckpt.Summed, ckpt.PerClient, ckpt.Dropped}
	f.Fuzz(func(t *testing.T, kind, shard, rows, width, workers, ranks, leaves uint8) {
		x := ckpt.Tensor{Name: "x", Type: types[int(kind)%len(types)], Shard: shards[int(shard)%len(shards)], Shape: []int{int(rows), int(width)}}
		if width%5 == 4 {
			x.Shape = x.Shape[:int(rows)%2]
		}
		x.Data = make([]byte, x.Len()*x.Type.Size())
		for i := range x.Data {
			x.Data[i] = byte(i * 7)
		}
		tree := comm.NewTree(1+int(leaves)%16, 1+int(ranks)%16)
		saved := 1 + int(workers)%16
		var all []byte
		for rank := range comm.Rank(tree.Ranks()) {
			own, err := deal(x, saved, tree, rank)
			if err != nil {
				fits := x.Shard == ckpt.PerClient && len(x.Shape) > 0 && x.Shape[0] == tree.Leaves() ||
					x.Shard == ckpt.Summed && len(x.Shape) > 0 && x.Shape[0] == saved && (x.Type == ckpt.F32 || x.Type == ckpt.F64)
				if fits {
					t.Fatalf("%s %v, %s, of %d workers: %v", x.Type, x.Shape, x.Shard, saved, err)
				}
				return
			}
			if own.Len()*own.Type.Size() != len(own.Data) {
				t.Fatalf("rank %d got %s %v in %d bytes", rank, own.Type, own.Shape, len(own.Data))
			}
			all = append(all, own.Data...)
		}
		rowwise := x.Shard == ckpt.PerClient || x.Shard == ckpt.Summed && saved == tree.Ranks()
		if rowwise && !bytes.Equal(all, x.Data) {
			t.Fatalf("%s %v, %s, of %d workers: the ranks' rows are not the saved ones", x.Type, x.Shape, x.Shard, saved)
		}
	})
}
