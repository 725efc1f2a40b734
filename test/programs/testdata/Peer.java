// SPDX-License-Identifier: Apache-2.0
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.HexFormat;

/** serve or get: the server of the JDK, and its client. */
public class Peer {
	public static void main(String[] args) throws Exception {
		int port = Integer.parseInt(System.getenv("PORT"));
		if (args[0].equals("serve")) {
			byte[] body = Files.readAllBytes(Path.of(System.getenv("DIR"), "body"));
			HttpServer server = HttpServer.create(new InetSocketAddress(port), 0);
			server.createContext("/", exchange -> {
				exchange.sendResponseHeaders(200, body.length);
				try (var out = exchange.getResponseBody()) {
					out.write(body);
				}
			});
			server.start();
			return;
		}
		HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
		URI uri = URI.create("http://" + System.getenv("SERVER") + ":" + port + "/body");
		for (int i = Integer.parseInt(System.getenv("N")); i > 0; i--) {
			byte[] got = client.send(HttpRequest.newBuilder(uri).build(), HttpResponse.BodyHandlers.ofByteArray()).body();
			System.out.println(HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(got)));
		}
	}
}
