// Java's stock HttpClient, which offers HTTP/2 by h2c with its first request.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

public class Client {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        report("chat", ask(client, arguments[0], false));
        report("chat, again on the connection", ask(client, arguments[0], false));
        report("chat, streamed", ask(client, arguments[0], true));
    }

    static String ask(HttpClient client, String url, boolean stream) throws Exception {
        String body = "{\"model\": \"fake@4\", \"stream\": " + stream + ", \"messages\": "
            + "[{\"role\": \"user\", \"content\": \"What is 12 + 35 + 7?\"}]}";
        HttpRequest request = HttpRequest.newBuilder(URI.create(url + "/v1/chat/completions"))
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(body))
            .build();
        HttpResponse<String> response = client.send(request, HttpResponse.BodyHandlers.ofString());
        boolean good = response.statusCode() == 200 && response.body().contains("boxed{54}");
        return good ? "" : "status " + response.statusCode();
    }

    static void report(String tried, String error) {
        String version = System.getProperty("java.version");
        System.out.println("{\"version\": \"" + version + "\", \"tried\": \"" + tried
            + "\", \"error\": \"" + error + "\"}");
    }
}
