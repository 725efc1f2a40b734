// SPDX-License-Identifier: Apache-2.0
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.sql.DriverManager;
import java.util.HexFormat;

/** Writes the body into a row and reads it N times. */
public class Jdbc {
	public static void main(String[] args) throws Exception {
		String body = Files.readString(Path.of(System.getenv("DIR"), "body"));
		try (var c = DriverManager.getConnection("jdbc:postgresql://" + System.getenv("SERVER") + "/postgres?user=postgres")) {
			c.createStatement().execute("create table t (v text)");
			var insert = c.prepareStatement("insert into t values (?)");
			insert.setString(1, body);
			insert.execute();
			var select = c.prepareStatement("select v from t");
			for (int i = Integer.parseInt(System.getenv("N")); i > 0; i--) {
				var rows = select.executeQuery();
				rows.next();
				byte[] got = rows.getString(1).getBytes();
				System.out.println(HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(got)));
			}
		}
	}
}
