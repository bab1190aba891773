package diagnose

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"strings"
)

// claim is a way to read what the signature member says.
type claim struct {
	mac  []byte
	slip *Slip
}

// decode lists what bytes a signature may stand for.
func decode(signature string) []claim {
	var all []claim
	fields := strings.Fields(signature)
	if len(fields) == 0 {
		return nil
	}
	last := strings.TrimPrefix(fields[len(fields)-1], "0x")
	if mac, err := hex.DecodeString(last); err == nil {
		c := claim{mac: mac}
		if last != signature {
			c.slip = &Slip{Encoding, true, "the signature member holds more than the hexadecimal digits", "write the 64 hexadecimal digits and nothing else, as with openssl dgst -r | cut -c1-64"}
		}
		all = append(all, c)
	}
	text := strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(last), "=")
	if mac, err := base64.RawStdEncoding.DecodeString(text); err == nil {
		slip := &Slip{Encoding, true, "the signature is in base64", "write the 32 bytes of the MAC as 64 hexadecimal digits"}
		all = append(all, claim{mac, slip})
		if inner, err := hex.DecodeString(string(mac)); err == nil {
			all = append(all, claim{inner, slip})
		}
	}
	return all
}

// algorithm makes a MAC, or what was taken for one.
type algorithm struct {
	name string
	size int
	sum  func(key, text []byte) []byte
}

func algorithms() []algorithm {
	with := func(name string, size int, h func() hash.Hash) algorithm {
		return algorithm{name, size, func(key, text []byte) []byte {
			m := hmac.New(h, key)
			m.Write(text)
			return m.Sum(nil)
		}}
	}
	digest := func(name string, input func(key, text []byte) []byte) algorithm {
		return algorithm{name, sha256.Size, func(key, text []byte) []byte {
			sum := sha256.Sum256(input(key, text))
			return sum[:]
		}}
	}
	return []algorithm{
		with("HMAC-SHA256", sha256.Size, sha256.New),
		with("HMAC-SHA1", sha1.Size, sha1.New),
		with("HMAC-SHA512", sha512.Size, sha512.New),
		with("HMAC-SHA384", sha512.Size384, sha512.New384),
		with("HMAC-SHA224", sha256.Size224, sha256.New224),
		with("HMAC-MD5", md5.Size, md5.New),
		digest("SHA256 of the key and the text", func(key, text []byte) []byte { return join(key, text) }),
		digest("SHA256 of the text and the key", func(key, text []byte) []byte { return join(text, key) }),
		digest("SHA256 of the text, without a key", func(_, text []byte) []byte { return text }),
	}
}

// secret is a key as it may have been used, and by which slips.
type secret struct {
	bytes []byte
	slips []Slip
}

func secrets(keys []Key) []secret {
	var all []secret
	for _, k := range keys {
		var slips []Slip
		if !k.InForce {
			slips = []Slip{{OtherKey, true, "it was signed with " + k.Name, "give the device the key that is in force: pulsegate device add prints it"}}
		}
		all = append(all, secret{k.Secret, slips})
		with := func(b, name, found, remedy string) {
			all = append(all, secret{[]byte(b), append(slips[:len(slips):len(slips)], Slip{name, true, found, remedy})})
		}
		digits := hex.EncodeToString(k.Secret)
		const decodeFirst = "decode the 64 hexadecimal digits to 32 bytes first: bytes.fromhex in Python, -macopt hexkey: for openssl"
		for _, b := range []string{digits, strings.ToUpper(digits), digits + "\n", digits + "\x00"} {
			with(b, KeyAsText, "the key's hexadecimal digits were used as the key, as text", decodeFirst)
		}
		with(base64.StdEncoding.EncodeToString(k.Secret), KeyAsText, "the key's base64 form was used as the key, as text", decodeFirst)
		if k.Password != "" {
			const remedy = "sign with the key, not with the MQTT password"
			with(k.Password, WrongSecret, "the device's MQTT password was used as the key", remedy)
			if b, err := hex.DecodeString(k.Password); err == nil {
				with(string(b), WrongSecret, "the device's MQTT password, decoded, was used as the key", remedy)
			}
		}
	}
	return append(all, secret{nil, []Slip{{WrongSecret, true, "the key was empty", "look where the key is read from: a variable or file may be missing"}}})
}

// match is how a signature came about.
type match struct {
	claim     claim
	text      text
	secret    secret
	algorithm algorithm
}

func (m match) slips() []Slip {
	var all []Slip
	if m.claim.slip != nil {
		all = append(all, *m.claim.slip)
	}
	if m.algorithm.name != algorithms()[0].name {
		all = append(all, Slip{Algorithm, true, "it was made with " + m.algorithm.name, "sign with HMAC-SHA256"})
	}
	return append(append(all, m.secret.slips...), m.text.slips...)
}

// search tries every combination and returns the one with the fewest slips.
func search(d document, claims []claim, keys []Key) (best match, ok bool) {
	fewest := 0
	for _, s := range secrets(keys) {
		for _, a := range algorithms() {
			wanted := sized(claims, a.size)
			if len(wanted) == 0 {
				continue
			}
			for _, t := range d.texts {
				mac := a.sum(s.bytes, t.bytes)
				for _, c := range wanted {
					m := match{c, t, s, a}
					if bytes.Equal(mac, c.mac) && (!ok || len(m.slips()) < fewest) {
						best, ok, fewest = m, true, len(m.slips())
					}
				}
			}
		}
	}
	return best, ok
}

func sized(claims []claim, size int) []claim {
	var all []claim
	for _, c := range claims {
		if len(c.mac) == size {
			all = append(all, c)
		}
	}
	return all
}
