package profile

import "fmt"

// bertBase is BERT-base of Devlin et al. (arXiv 1810.04805, section 3), uncased, with its pooler and without a task's head: 12
// layers of width 768, post-normalised.
func bertBase(b *builder, tokens int) {
	const width = 768
	b.add("embeddings.word", 0, 30522, width)
	b.add("embeddings.position", 0, 512, width)
	b.add("embeddings.type", 0, 2, width)
	b.norm("embeddings.norm", width)
	for i := range 12 {
		name := fmt.Sprintf("layer%d", i)
		for _, part := range []string{"query", "key", "value"} {
			b.dense(name+"."+part, tokens, width, width)
		}
		b.attention(tokens, width)
		b.dense(name+".out", tokens, width, width)
		b.norm(name+".norm1", width)
		b.dense(name+".up", tokens, width, 4*width)
		b.dense(name+".down", tokens, 4*width, width)
		b.norm(name+".norm2", width)
	}
	b.dense("pooler", 1, width, width)
}

// gpt2Small is the smallest network of Radford et al. (Language models are unsupervised multitask learners, 2019, table 2):
// 12 layers of width 768, pre-normalised. Its 124.4M parameters are those of the released weights; the table says 117M. The
// last product is with the words' embeddings again, whose gradient is final only at the end of the way back.
func gpt2Small(b *builder, tokens int) {
	const width, words = 768, 50257
	b.add("wte", 0, words, width)
	b.add("wpe", 0, 1024, width)
	for i := range 12 {
		name := fmt.Sprintf("h%d", i)
		b.norm(name+".norm1", width)
		b.dense(name+".qkv", tokens, width, 3*width)
		b.attention(tokens, width)
		b.dense(name+".out", tokens, width, width)
		b.norm(name+".norm2", width)
		b.dense(name+".up", tokens, width, 4*width)
		b.dense(name+".down", tokens, 4*width, width)
	}
	b.norm("norm", width)
	b.product(int64(tokens) * width * words)
}

// attention is queries times keys, and weights times values, each over all pairs of tokens: what a mask leaves out is
// computed, too.
func (b *builder) attention(tokens, width int) {
	b.product(2 * int64(tokens) * int64(tokens) * int64(width))
}
