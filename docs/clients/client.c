/*
 * A complete wearable in C: signs one reading with OpenSSL's HMAC and hands it
 * to mosquitto_pub until the gate acknowledges it.
 *
 *   cc -o client client.c -lcrypto
 *   client [--print] SPO2 HEART_RATE [SEQ]
 *
 * --print writes the signed payload to standard output and sends nothing.
 * Exit status: 0 acknowledged (or printed), 1 not acknowledged, 2 wrong usage.
 *
 * From the environment, as `pulsegate device add --json` gives them:
 *   WEARABLE_DEVICE_ID   device_id, which is also the MQTT client id and username
 *   WEARABLE_PATIENT_ID  patient_id
 *   WEARABLE_KEY         key, 64 hexadecimal digits
 *   WEARABLE_PASSWORD    password (not needed with --print)
 * and, where the default does not fit:
 *   MQTT_HOST (127.0.0.1)  MQTT_PORT (1883)  MQTT_ATTEMPTS (60, a second apart)
 *   MQTT_TOPIC (wearables/<device_id>/vitals)
 */
#define _POSIX_C_SOURCE 200809L
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { KEY_BYTES = 32, PAYLOAD_BYTES = 4096 };

static void fail(const char *message, int status) {
	fprintf(stderr, "%s\n", message);
	exit(status);
}

static const char *setting(const char *name, const char *otherwise) {
	const char *value = getenv(name);
	if (value != NULL && value[0] != '\0')
		return value;
	if (otherwise == NULL) {
		fprintf(stderr, "set %s\n", name);
		exit(2);
	}
	return otherwise;
}

/* The key is the 32 bytes that the digits stand for, not the digits. */
static void read_key(const char *digits, unsigned char key[KEY_BYTES]) {
	if (strlen(digits) != 2 * KEY_BYTES || strspn(digits, "0123456789abcdefABCDEF") != 2 * KEY_BYTES)
		fail("WEARABLE_KEY must be 64 hexadecimal digits", 2);
	for (int i = 0; i < KEY_BYTES; i++) {
		char pair[3] = {digits[2 * i], digits[2 * i + 1], '\0'};
		key[i] = (unsigned char)strtoul(pair, NULL, 16);
	}
}

static double number(const char *word) {
	char *end;
	double value = strtod(word, &end);
	if (end == word || *end != '\0' || !(value >= 0 && value <= 1e9))
		fail("SPO2 and HEART_RATE must be numbers", 2);
	return value;
}

/* Writes the text that is signed: the reading as one flat JSON object. */
static size_t write_text(char *text, size_t size, int words, char **word) {
	struct timespec now;
	char seq[40] = "";
	if (words == 3)
		snprintf(seq, sizeof seq, "\"seq\":%llu,", strtoull(word[2], NULL, 10));
	clock_gettime(CLOCK_REALTIME, &now);
	int n = snprintf(text, size,
		"{\"device_id\":\"%s\",\"patient_id\":\"%s\",\"timestamp\":%lld.%06ld,%s\"spo2\":%.10g,\"heart_rate\":%.10g}",
		setting("WEARABLE_DEVICE_ID", NULL), setting("WEARABLE_PATIENT_ID", NULL),
		(long long)now.tv_sec, now.tv_nsec / 1000, seq, number(word[0]), number(word[1]));
	if (n < 0 || (size_t)n >= size)
		fail("the reading is too long", 2);
	return (size_t)n;
}

/* Puts the signature member in the place of the closing brace. */
static void seal(char *text, size_t length, size_t size) {
	unsigned char key[KEY_BYTES], mac[EVP_MAX_MD_SIZE];
	unsigned int mac_bytes = 0;
	static const char before[] = ",\"signature\":\"";
	read_key(setting("WEARABLE_KEY", NULL), key);
	if (HMAC(EVP_sha256(), key, sizeof key, (unsigned char *)text, length, mac, &mac_bytes) == NULL)
		fail("OpenSSL made no signature", 1);
	if (length - 1 + strlen(before) + 2 * mac_bytes + 3 > size)
		fail("the reading is too long", 2);
	char *at = text + length - 1 + sprintf(text + length - 1, "%s", before);
	for (unsigned int i = 0; i < mac_bytes; i++)
		at += sprintf(at, "%02x", mac[i]);
	sprintf(at, "\"}");
}

/* Runs mosquitto_pub, which ends with 0 once the PUBACK is there. */
static int publish(const char *payload) {
	const char *device = setting("WEARABLE_DEVICE_ID", NULL);
	const char *password = setting("WEARABLE_PASSWORD", NULL);
	char topic[256];
	int status;
	snprintf(topic, sizeof topic, "wearables/%s/vitals", device);
	pid_t child = fork();
	if (child == 0) {
		execlp("mosquitto_pub", "mosquitto_pub", "-h", setting("MQTT_HOST", "127.0.0.1"),
			"-p", setting("MQTT_PORT", "1883"), "-i", device, "-u", device, "-P", password,
			"-t", setting("MQTT_TOPIC", topic), "-q", "1", "-m", payload, (char *)NULL);
		perror("mosquitto_pub");
		_exit(127);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		return 0;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int main(int argc, char **argv) {
	static char payload[PAYLOAD_BYTES + 1];
	int print = argc > 1 && strcmp(argv[1], "--print") == 0;
	int words = argc - 1 - print;
	if (words < 2 || words > 3)
		fail("usage: client [--print] SPO2 HEART_RATE [SEQ]", 2);
	seal(payload, write_text(payload, sizeof payload, words, argv + 1 + print), sizeof payload);
	if (print)
		return fputs(payload, stdout) < 0;

	/* The payload is made once and sent unchanged each time: the gate knows it
	 * by its signature, so a second copy does no harm. */
	for (int left = atoi(setting("MQTT_ATTEMPTS", "60")); !publish(payload);) {
		if (--left <= 0)
			fail("not acknowledged: giving up", 1);
		sleep(1);
	}
	return 0;
}
