from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("blobcache", "0004_job_attempts")]

    operations = [
        migrations.AddField(
            model_name="job",
            name="task",
            field=models.CharField(blank=True, default="", max_length=32),
        ),
    ]
